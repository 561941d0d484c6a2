"""What a clip's content is called, and the refusals that need no decoder.

Free of torch, numpy and PyAV: the command line names a clip before anything heavy is loaded.
"""

import hashlib
import re
import stat
from collections.abc import Callable
from pathlib import Path

from dvcli.errors import InputError

IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two letters or more: `C:` is a drive


def source_digest(path: Path, digest_file: Callable[[Path], str]) -> str:
    """The SHA-256 (hex) of a clip: of the file, or of a folder's images in their natural order.

    A folder's name is a hash over its images' digests, so renaming images changes nothing as long
    as their order stays. `digest_file` gives one file's SHA-256. Raises `InputError`.
    """
    if not check_source(path):
        return digest_file(path)
    listing = "".join(digest_file(image) + "\n" for image in images_of(path))
    return hashlib.sha256(b"dvid-folder-v1\0" + listing.encode()).hexdigest()


def check_source(path: Path) -> bool:
    """Whether the clip is a folder of images rather than a file; `InputError` if it is neither."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if _SCHEME.match(str(path)):
            raise InputError(
                f"`{path}` is an address, not a file", hint="download it first, then give its path"
            ) from None
        raise InputError(f"`{path}` does not exist", hint="check the path of the clip") from None
    except (OSError, ValueError) as error:  # symbolic link loops, names too long, NUL in the name
        raise InputError(f"`{path}` cannot be opened: {_reason(error)}") from None
    if stat.S_ISDIR(status.st_mode):
        images_of(path)
        return True
    if not stat.S_ISREG(status.st_mode):
        raise InputError(
            f"`{path}` is not a regular file",
            hint="pipes and devices must be saved to a file first",
        )
    if status.st_size == 0:
        raise InputError(f"`{path}` is empty", hint="was its download or export finished?")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"`{path}` cannot be opened: {_reason(error)}") from None
    return False


def images_of(folder: Path) -> list[Path]:
    """A folder's images in natural order (`2.png` before `10.png`); hidden files do not count."""
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise InputError(f"`{folder}` cannot be opened: {_reason(error)}") from None
    images = [
        entry
        for entry in entries
        if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
    ]
    if not images:
        raise InputError(
            f"the folder `{folder}` holds no images",
            hint=f"give a video file, or a folder of {', '.join(IMAGE_SUFFIXES)} files",
        )
    for image in images:
        if not image.is_file():
            raise InputError(f"`{image}` is not a regular file")
    return sorted(images, key=lambda image: natural(image.name))


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """The sort key that counts: digits by their value, letters without their case."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(p), "") if p.isdecimal() else (-1, p.casefold()) for p in parts], name


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
