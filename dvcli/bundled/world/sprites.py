"""The bodies: every shape ray-marched once from several sides into small maps that scenes reuse.

A body is a signed distance function in a box of half side 1, feet at y = -1 (y up, x right, z
toward the viewer). What is kept of each view is what the three styles need to paint it in any
colour: coverage, normal, how far it bulges toward the viewer, its dark and light markings, and
the signed distance to its outline.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dvcli.bundled.world.words import SHAPES

SIZE = 56  # pixels of a stored view
HALF = 1.15  # half the side of what a view shows
VIEWS = 4
CHANNELS = ("alpha", "nx", "ny", "nz", "bulge", "dark", "light", "inside")
_OVER = 2
_TILT = 0.22  # radians the camera looks down

Points = Float[Tensor, "n 3"]
Values = Float[Tensor, "n"]
Distance = Callable[[Points], Values]


class Body(NamedTuple):
    distance: Distance
    marks: Callable[[Points], tuple[Values, Values]]  # dark, light
    yaws: tuple[float, ...]


def _length(v: Float[Tensor, "n k"]) -> Values:
    length: Values = torch.linalg.vector_norm(v, dim=1)
    return length


def _ellipsoid(p: Points, centre: tuple[float, ...], radii: tuple[float, ...]) -> Values:
    r = torch.tensor(radii)
    q = p - torch.tensor(centre)
    k0 = _length(q / r)
    k1 = _length(q / r**2).clamp(min=1e-6)
    return torch.where(k0 < 1e-3, -r.min(), k0 * (k0 - 1) / k1)


def _capsule(p: Points, a: tuple[float, ...], b: tuple[float, ...], r: float) -> Values:
    pa, ba = p - torch.tensor(a), torch.tensor(b) - torch.tensor(a)
    h = ((pa @ ba) / ba.dot(ba)).clamp(0, 1)
    return _length(pa - h[:, None] * ba) - r


def _join(*parts: Values) -> Values:
    return torch.stack(parts).amin(dim=0)


def _ball(p: Points) -> Values:
    return _length(p) - 0.95


def _cube(p: Points) -> Values:
    q = (p - torch.tensor((0.0, -0.18, 0.0))).abs() - 0.70
    return _length(q.clamp(min=0)) + q.amax(dim=1).clamp(max=0) - 0.03


def _cone(p: Points) -> Values:
    radius = _length(p[:, [0, 2]])
    slope = 0.9 * (0.98 - p[:, 1]) / 1.96
    return torch.maximum((radius - slope) * 0.9, -p[:, 1] - 0.96)


def _cylinder(p: Points) -> Values:
    return torch.maximum(_length(p[:, [0, 2]]) - 0.58, p[:, 1].abs() - 0.88)


def _ring(p: Points) -> Values:
    return _length(torch.stack((_length(p[:, :2]) - 0.64, p[:, 2]), dim=1)) - 0.30


def _head(p: Points) -> Values:
    return _ellipsoid(p, (-0.44, 0.30, 0.30), (0.40, 0.38, 0.36))


def _legs(p: Points) -> Values:
    return _join(
        _capsule(p, (-0.30, -0.25, 0.22), (-0.34, -0.84, 0.24), 0.16),
        _capsule(p, (-0.02, -0.25, -0.20), (-0.02, -0.80, -0.20), 0.15),
        _capsule(p, (0.58, -0.25, 0.22), (0.62, -0.84, 0.24), 0.17),
        _capsule(p, (0.36, -0.25, -0.20), (0.36, -0.80, -0.20), 0.15),
    )


def _ears(p: Points) -> Values:
    return _join(
        _ellipsoid(p, (-0.72, 0.66, 0.22), (0.17, 0.17, 0.10)),
        _ellipsoid(p, (-0.16, 0.66, 0.22), (0.17, 0.17, 0.10)),
    )


def _muzzle(p: Points) -> Values:
    return _ellipsoid(p, (-0.50, 0.17, 0.62), (0.20, 0.15, 0.16))


def _trunk(p: Points) -> Values:
    return _ellipsoid(p, (0.22, -0.14, 0.0), (0.70, 0.42, 0.42))


def _bear(p: Points) -> Values:
    tail = _ellipsoid(p, (0.90, 0.0, 0.0), (0.12, 0.12, 0.12))
    return _join(_trunk(p), _head(p), _legs(p), _ears(p), _muzzle(p), tail)


def _tail(p: Points) -> Values:
    return _join(
        _capsule(p, (0.80, 0.0, 0.0), (1.0, 0.25, 0.0), 0.09),
        _capsule(p, (1.0, 0.25, 0.0), (0.93, 0.62, 0.0), 0.09),
    )


def _tiger(p: Points) -> Values:
    return _join(_trunk(p), _head(p), _legs(p), _ears(p), _muzzle(p), _tail(p))


def _mane(p: Points) -> Values:
    return _ellipsoid(p, (-0.42, 0.28, 0.12), (0.62, 0.62, 0.30))


def _lion(p: Points) -> Values:
    tuft = _ellipsoid(p, (0.93, 0.66, 0.0), (0.15, 0.17, 0.12))
    return _join(_trunk(p), _head(p), _legs(p), _muzzle(p), _tail(p), _mane(p), tuft)


def _rabbit(p: Points) -> Values:
    return _join(
        _ellipsoid(p, (0.16, -0.48, 0.0), (0.56, 0.50, 0.48)),
        _ellipsoid(p, (-0.22, 0.10, 0.28), (0.38, 0.34, 0.34)),
        _capsule(p, (-0.38, 0.35, 0.22), (-0.46, 0.90, 0.15), 0.12),
        _capsule(p, (-0.06, 0.35, 0.22), (0.04, 0.90, 0.15), 0.12),
        _ellipsoid(p, (-0.20, -0.86, 0.35), (0.26, 0.13, 0.20)),
        _ellipsoid(p, (0.76, -0.60, 0.0), (0.20, 0.20, 0.20)),
    )


def _near(p: Points, x: float, y: float, z: float, radius: float) -> Values:
    return (_length(p - torch.tensor((x, y, z))) < radius).float()


def _within(part: Values) -> Values:
    return (part < 0.03).float()


def _face(p: Points) -> Values:
    """Two eyes and a nose, coarse enough for thirty pixels."""
    eyes = _near(p, -0.64, 0.38, 0.58, 0.11) + _near(p, -0.30, 0.38, 0.60, 0.11)
    return (eyes + _near(p, -0.52, 0.22, 0.78, 0.12)).clamp(max=1)


def _plain(p: Points) -> tuple[Values, Values]:
    return torch.zeros(len(p)), torch.zeros(len(p))


def _bear_marks(p: Points) -> tuple[Values, Values]:
    return _face(p), 0.35 * _within(_muzzle(p))


def _panda_marks(p: Points) -> tuple[Values, Values]:
    eyes = _near(p, -0.66, 0.36, 0.58, 0.18) + _near(p, -0.28, 0.36, 0.60, 0.18)
    nose = _near(p, -0.52, 0.22, 0.78, 0.13)
    shoulder = _within(_trunk(p)) * (p[:, 0] < 0.12).float()
    head = _within(_head(p))
    limbs = _within(_legs(p)) + _within(_ears(p)) + shoulder
    return (eyes + nose + limbs * (1 - head)).clamp(max=1), torch.zeros(len(p))


def _tiger_marks(p: Points) -> tuple[Values, Values]:
    band = (torch.sin(p[:, 0] * 15.0 + 1.2 * p[:, 1]) > 0.25).float()
    body = _within(_trunk(p)) * (p[:, 1] > -0.42).float() + _within(_legs(p)) * 0
    rings = (torch.sin(p[:, 1] * 15.0) > 0.2).float() * (p[:, 0] > 0.78).float()
    head = _within(_head(p))
    brow = head * (p[:, 1] > 0.50).float() * (torch.sin(p[:, 0] * 20 + 1.0) > 0.1).float()
    dark = (_face(p) + band * body * (1 - head) + rings + brow).clamp(max=1)
    belly = _within(_trunk(p)) * (p[:, 1] < -0.40).float() + _within(_muzzle(p))
    return dark, belly.clamp(max=0.9) * (1 - dark)


def _lion_marks(p: Points) -> tuple[Values, Values]:
    head = torch.maximum(_within(_head(p)), _within(_muzzle(p)))
    mane = _within(_mane(p)) * (1 - head) + _near(p, 0.93, 0.66, 0.0, 0.24)
    return (_face(p) + 0.72 * mane.clamp(max=1)).clamp(max=1), 0.5 * _within(_muzzle(p))


def _rabbit_marks(p: Points) -> tuple[Values, Values]:
    eyes = _near(p, -0.42, 0.16, 0.58, 0.12) + _near(p, -0.08, 0.16, 0.60, 0.12)
    tail = _within(_ellipsoid(p, (0.76, -0.60, 0.0), (0.20, 0.20, 0.20)))
    nose = _near(p, -0.26, 0.0, 0.62, 0.10)
    return (eyes + nose).clamp(max=1), tail


_SIDES = (-0.30, -0.10, 0.10, 0.28)
BODIES = {
    "ball": Body(_ball, _plain, (0.0,) * VIEWS),
    "cube": Body(_cube, _plain, (0.45, 0.65, 0.85, 1.10)),
    "cone": Body(_cone, _plain, (0.0,) * VIEWS),
    "cylinder": Body(_cylinder, _plain, (0.0,) * VIEWS),
    "ring": Body(_ring, _plain, (-0.5, -0.2, 0.2, 0.5)),
    "bear": Body(_bear, _bear_marks, _SIDES),
    "panda": Body(_bear, _panda_marks, _SIDES),
    "tiger": Body(_tiger, _tiger_marks, _SIDES),
    "lion": Body(_lion, _lion_marks, _SIDES),
    "rabbit": Body(_rabbit, _rabbit_marks, _SIDES),
}


def _turn(yaw: float) -> Float[Tensor, "3 3"]:
    """The rotation from the camera's axes to the body's."""
    c, s = float(np.cos(yaw)), float(np.sin(yaw))
    ct, st = float(np.cos(_TILT)), float(np.sin(_TILT))
    about_y = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    about_x = torch.tensor([[1, 0, 0], [0, ct, st], [0, -st, ct]])
    return about_y @ about_x


def _view(body: Body, yaw: float) -> Float[Tensor, "8 s s"]:
    fine = SIZE * _OVER
    axis = (torch.arange(fine) + 0.5) / fine * 2 * HALF - HALF
    x, y = torch.meshgrid(axis, -axis, indexing="xy")
    turn = _turn(yaw)
    start = torch.stack((x, y, torch.full_like(x, 1.8)), dim=-1).reshape(-1, 3)
    ray = turn @ torch.tensor((0.0, 0.0, -1.0))
    origin = start @ turn.T
    travelled = torch.zeros(len(origin))
    nearest = torch.full((len(origin),), 9.0)
    for _ in range(36):
        d = body.distance(origin + travelled[:, None] * ray)
        nearest = torch.minimum(nearest, d)
        travelled = (travelled + 0.9 * d).clamp(max=4.0)
    hit = nearest < 0.006
    point = origin + travelled[:, None] * ray
    step = 0.01
    slope = torch.stack(
        [body.distance(point + step * e) - body.distance(point - step * e) for e in torch.eye(3)],
        dim=1,
    )
    normal = (slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-6)) @ turn
    bulge = 1.8 - travelled
    dark, light = body.marks(point)
    shown = torch.stack((torch.ones(len(point)), *normal.T, bulge, dark, light))
    shown = (shown * hit).view(7, fine, fine)
    small = avg_pool2d(shown[None], _OVER)[0]
    inside = _outline(small[0])
    return torch.cat((small, inside[None]))


def _outline(alpha: Float[Tensor, "s s"]) -> Float[Tensor, "s s"]:
    """Signed distance to the outline in pixels of the view, positive inside."""
    rows, cols = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    at = torch.stack((rows, cols), dim=-1).reshape(-1, 2).float()
    full = (alpha > 0.5).flatten()
    to_full = torch.cdist(at, at[full]).amin(dim=1)
    to_empty = torch.cdist(at, at[~full]).amin(dim=1)
    return (to_empty - to_full + 0.5 - full.float()).view(SIZE, SIZE)


@cache
def atlas() -> Float[Tensor, "k 8 s s"]:
    """Every view of every shape, `[len(SHAPES) * VIEWS, 8, SIZE, SIZE]`; see `CHANNELS`.

    All but `alpha` and `inside` are premultiplied by coverage. Takes about two seconds once.
    """
    with torch.no_grad():
        views = [_view(BODIES[shape], yaw) for shape in SHAPES for yaw in BODIES[shape].yaws]
    return torch.stack(views)
