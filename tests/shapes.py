"""The checker of shapes and types at every seam: `pytest --jaxtyping-packages=…,shapes.check`."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
