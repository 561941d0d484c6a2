"""PickScore: a CLIP that was taught which of two pictures people chose for a prompt.

Kirstain et al., Pick-a-Pic (NeurIPS 2023). The format is that of any CLIP; only its temperature
counts beside the embeddings.
"""

from dvcli.models.clip import Clip


def scale(model: Clip) -> float:
    """What a cosine is multiplied by: about 100 in the published model."""
    return float(model.model.logit_scale.detach().double().exp())
