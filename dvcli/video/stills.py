"""Animations and folders of images, through Pillow: FFmpeg lacks some and numbers the others."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from dvcli.errors import InputError
from dvcli.video.colour import over
from dvcli.video.digest import images_of
from dvcli.video.opening import check_size
from dvcli.video.probe import ClipInfo, StreamInfo

FOLDER_FPS = 25  # as FFmpeg's own `image2`
# Of all frames of one animation: 130,000 of 512×512. More is no clip but a bomb, or a lie.
ALL_PIXELS = 2**35
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MARKS = (b"GIF8", b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6")
# What Pillow's readers raise about a file's bytes.
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, RuntimeError, ArithmeticError,
    struct.error, zlib.error,
)  # fmt: skip
Pixels = UInt8[np.ndarray, "H W 3"]


def is_still(path: Path) -> bool:
    """Whether a file is an image or animation for Pillow, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(16)
    if path.suffix.lower() in (".mjpeg", ".mjpg"):
        return False
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    avif = head[4:12] in (b"ftypavif", b"ftypavis")
    return webp or avif or head.startswith(_MARKS)


def animation_times(path: Path) -> tuple[tuple[float, ...], ClipInfo]:
    """When each frame of an animation is shown, in seconds, and what the file is.

    A frame of 10 ms or less lasts 100 ms, as in every browser.
    """
    with opened(path) as image:
        first, count = _first(image), getattr(image, "n_frames", 1)
        _bounded(path, image, count)
        starts: list[float] = []
        now = 0.0
        alpha = False
        for number in range(first, count):
            _turn_to(path, image, number)
            _bounded(path, image, count)  # a GIF may grow on the way
            image.load()
            alpha = alpha or image.has_transparency_data
            starts.append(now)
            shown = float(image.info.get("duration") or 0)
            now += (shown if shown > 10 else 100.0) / 1000
        if not starts:
            raise InputError(f"`{path}` holds no frames")
        return tuple(starts), _info(image, "animation", tuple(starts), now, alpha)


def animation_frames(
    path: Path, chosen: list[int], background: tuple[int, int, int]
) -> Iterator[tuple[Pixels, list[str]]]:
    """The chosen frames of an animation, composited on `background`."""
    with opened(path) as image:
        first = _first(image)
        for index in chosen:
            _turn_to(path, image, first + index)
            yield _rgb(image, background)


def folder_times(folder: Path) -> tuple[tuple[float, ...], ClipInfo]:
    """The images of a folder at 25 frames per second, and what the first of them is."""
    images = images_of(folder)
    times = tuple(number / FOLDER_FPS for number in range(len(images)))
    with opened(images[0]) as image:
        alpha = image.has_transparency_data
        info = _info(
            ImageOps.exif_transpose(image), "folder", times, len(images) / FOLDER_FPS, alpha
        )
        return times, info


def folder_frames(
    folder: Path, chosen: list[int], background: tuple[int, int, int]
) -> Iterator[tuple[Pixels, list[str]]]:
    """The chosen images of a folder in natural order, turned as their EXIF says."""
    images = images_of(folder)
    for index in chosen:
        with opened(images[index]) as image:
            yield _rgb(ImageOps.exif_transpose(image), background)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A Pillow image of a known format and size; what Pillow cannot read is an `InputError`."""
    Image.init()
    Image.MAX_IMAGE_PIXELS = None  # the size is checked below, with one message for all media
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                check_size(path, image.width, image.height)
                yield image
    except UnidentifiedImageError:
        raise InputError(f"`{path}` cannot be read as an image", hint="is it complete?") from None
    except _DAMAGE as error:
        raise InputError(
            f"`{path}` is damaged: {str(error).splitlines()[0] if str(error) else 'it ends early'}",
            hint="export it again",
        ) from None


def _turn_to(path: Path, image: Image.Image, number: int) -> None:
    """Go to a frame, not yet decoded; a GIF's may be larger than the picture they are part of."""
    image.seek(number)
    check_size(path, image.width, image.height)


def _bounded(path: Path, image: Image.Image, count: int) -> None:
    if count * image.width * image.height > ALL_PIXELS:
        raise InputError(
            f"`{path}` is an animation of {count} frames of {image.width}×{image.height},"
            " more than can be read",
            hint="cut it shorter, or scale it down first",
        )


def _first(image: Image.Image) -> int:
    """1 for an APNG whose first picture is only for viewers that cannot animate."""
    return (
        1 if getattr(image, "default_image", False) and getattr(image, "is_animated", False) else 0
    )


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> tuple[Pixels, list[str]]:
    image.load()
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip at 255
        levels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        grey = ((levels + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2), []
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB")), []
    rgba = np.asarray(image.convert("RGBA"))
    if rgba[..., 3].min() == 255:
        return np.ascontiguousarray(rgba[..., :3]), []
    return over(rgba, background), ["transparency laid over the background colour"]


def _info(
    image: Image.Image, kind: str, times: tuple[float, ...], duration: float, alpha: bool
) -> ClipInfo:
    codec = (image.format or "image").lower()
    steady = len(times) > 1 and times[-1] > 0
    return ClipInfo(
        kind="animation" if kind == "animation" else "folder",
        container=codec if kind == "animation" else "folder",
        codec=codec,
        width=image.width,
        height=image.height,
        rotation=0,
        sar=Fraction(1),
        frames=len(times),
        duration_s=duration,
        fps=(len(times) - 1) / times[-1] if steady else 1 / duration,
        color_trc=None,
        alpha=alpha,
        interlaced=False,
        streams=(StreamInfo(index=0, codec=codec, width=image.width, height=image.height),),
    )
