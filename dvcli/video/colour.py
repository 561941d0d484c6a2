"""A decoded picture as upright 8-bit RGB, by the colour space it says it is in."""

from collections.abc import Mapping
from fractions import Fraction
from typing import cast

import av.filter
import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from jaxtyping import UInt8

_FLAGS = int(
    Interpolation.LANCZOS
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)
BT709, RGB, UNSPECIFIED, BT601, BT2020 = 1, 0, 2, 5, 9
_HDR = {16: "PQ", 18: "HLG"}
_WIDE = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}


def to_rgb(
    frame: VideoFrame, background: tuple[int, int, int], hdr: "ToBT709"
) -> tuple[UInt8[np.ndarray, "H W 3"], list[str]]:
    """The picture as uint8 RGB, transparency laid over `background`, and what was converted.

    The matrix and range are the stream's. Without a tag, pictures wider than 1279 or taller than
    576 are BT.709, smaller ones BT.601, as players take them. HDR (PQ, HLG) and wide gamuts become
    BT.709 by FFmpeg's `scale` (`hdr`, one for the clip): PQ's diffuse white of 203 cd/m² is white,
    what is brighter clips; the rest is as a BT.1886 display shows it.
    """
    transparent = any(component.is_alpha for component in frame.format.components)
    target = "rgba" if transparent else "rgb24"
    notes: list[str] = []
    if frame.color_trc in _HDR or frame.color_primaries in _WIDE:
        name = _HDR.get(frame.color_trc)
        gamut = _WIDE.get(frame.color_primaries, "wide gamut")
        notes.append(f"{f'HDR ({name})' if name else gamut} converted to BT.709")
        if frame.colorspace == UNSPECIFIED:
            frame.colorspace = BT2020
        converted = hdr(frame, target)
    else:
        matrix: int | None = frame.colorspace
        if frame.format.is_rgb or matrix == RGB:
            matrix = None
        elif matrix == UNSPECIFIED:
            large = frame.width >= 1280 or frame.height > 576
            matrix = BT709 if large else BT601
            notes.append(f"untagged colour read as {'BT.709' if large else 'BT.601'}")
        converted = frame.reformat(format=target, src_colorspace=matrix, interpolation=_FLAGS)
    pixels = converted.to_ndarray()
    if transparent:
        pixels = over(pixels, background)
        notes.append("transparency laid over the background colour")
    return pixels, notes


def over(
    rgba: UInt8[np.ndarray, "H W 4"], background: tuple[int, int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture with straight alpha on a plain colour: `a·c + (1 − a)·b`, rounded."""
    alpha = rgba[..., 3:].astype(np.uint32)
    plain = np.array(background, dtype=np.uint32)
    mixed = rgba[..., :3] * alpha + plain * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def upright(pixels: UInt8[np.ndarray, "_ _ c"], frame: VideoFrame) -> UInt8[np.ndarray, "_ _ c"]:
    """The picture turned as its display matrix says, by quarter turns and mirroring, exactly.

    The matrix `[[a, b], [c, d]]` takes a pixel at `(p, q)`, right and down, to
    `(a p + c q, b p + d q)`.
    """
    attached = cast(Mapping[str, Buffer], frame.side_data)  # PyAV's own stub names fewer keys
    if "DISPLAYMATRIX" not in attached:
        return pixels
    matrix = bytes(attached["DISPLAYMATRIX"])
    a, b, _, c, d = (int(v) for v in np.frombuffer(matrix, dtype=np.int32)[:5])
    right, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels = pixels.swapaxes(0, 1)
        right, down = c, b
    if right < 0:
        pixels = pixels[:, ::-1]
    if down < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


class ToBT709:
    """FFmpeg's `scale` set up for HDR; kept, because computing its colour tables takes seconds."""

    def __init__(self) -> None:
        self._graphs: dict[tuple[int, int, str, int, int, int, int], av.filter.Graph] = {}

    def __call__(self, frame: VideoFrame, target: str) -> VideoFrame:
        """The frame as `rgb24` or `rgba`."""
        key = (
            frame.width,
            frame.height,
            frame.format.name,
            frame.color_trc,
            frame.color_primaries,
            frame.colorspace,
            frame.color_range,
        )
        if key not in self._graphs:
            self._graphs = {key: _graph(frame, target)}
        self._graphs[key].vpush(frame)
        return self._graphs[key].vpull()


def _graph(frame: VideoFrame, target: str) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 25),
    )
    scale = graph.add(
        "scale",
        "out_primaries=bt709:out_transfer=bt709:flags=lanczos+accurate_rnd+full_chroma_int+bitexact",
    )
    nodes = source, scale, graph.add("format", target), graph.add("buffersink")
    graph.link_nodes(*nodes).configure()
    return graph
