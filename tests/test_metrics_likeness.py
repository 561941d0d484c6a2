"""PSNR, SSIM and GMSD against other implementations and against cases worked by hand."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dvcli.core.likeness import gmsd, likeness, luma, ssim
from dvcli.errors import InputError


def picture(seed: int, height: int = 40, width: int = 56) -> torch.Tensor:
    """A smooth scene with edges and some grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = 120 + 60 * np.sin(x / 7 + rng.uniform(0, 6)) * np.cos(y / 5) + 50 * (x > width // 2)
    coloured = base[..., None] * rng.uniform(0.6, 1.0, 3) + rng.normal(0, 4, (height, width, 3))
    return torch.from_numpy(np.clip(coloured, 0, 255).astype(np.uint8))


def worse(frame: torch.Tensor, sigma: float) -> torch.Tensor:
    grain = np.random.default_rng(9).normal(0, sigma, frame.shape)
    return torch.from_numpy(np.clip(frame.numpy() + grain, 0, 255).astype(np.uint8))


PAIRS = [
    (picture(0), picture(1)),
    (picture(0), worse(picture(0), 3)),
    (picture(0), worse(picture(0), 40)),
    (picture(2, 11, 11), picture(3, 11, 11)),
    (picture(2, 33, 64), 255 - picture(2, 33, 64)),
]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_ssim_is_that_of_scikit_image(a: torch.Tensor, b: torch.Tensor) -> None:
    theirs = structural_similarity(
        luma(a)[0, 0].numpy(),
        luma(b)[0, 0].numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim(luma(a), luma(b)) == pytest.approx(theirs, abs=1e-9)


def test_ssim_of_two_plain_pictures_is_the_luminance_term() -> None:
    a, b = (torch.full((1, 1, 16, 16), v, dtype=torch.float64) for v in (100.0, 150.0))
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert ssim(a, b) == pytest.approx(expected, abs=1e-9)


def published_gmsd(a: np.ndarray, b: np.ndarray) -> float:
    """The steps of the authors' program, with scipy's convolution for theirs."""
    mean = np.full((2, 2), 0.25)
    # `same` of an even kernel is, there, what begins at the second row and column.
    a, b = (convolve2d(x, mean)[1:, 1:][::2, ::2] for x in (a, b))
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    lengths = [
        np.hypot(convolve2d(x, prewitt, "same"), convolve2d(x, prewitt.T, "same")) for x in (a, b)
    ]
    g, h = lengths
    return float(((2 * g * h + 170) / (g**2 + h**2 + 170)).std())


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_gmsd_is_that_of_its_definition(a: torch.Tensor, b: torch.Tensor) -> None:
    theirs = published_gmsd(luma(a)[0, 0].numpy(), luma(b)[0, 0].numpy())
    assert gmsd(luma(a), luma(b)) == pytest.approx(theirs, abs=1e-9)


def test_a_clips_figures_are_those_of_its_frames() -> None:
    a = torch.stack([picture(0), picture(1)])
    b = torch.stack([worse(picture(0), 3), worse(picture(1), 20)])
    found = likeness(a, b)
    pairs = [(luma(x), luma(y)) for x, y in zip(a, b, strict=True)]
    assert found["ssim"] == pytest.approx(sum(ssim(*pair) for pair in pairs) / 2)
    assert found["gmsd"] == pytest.approx(sum(gmsd(*pair) for pair in pairs) / 2)
    whole = peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=255)
    assert found["psnr"] == pytest.approx(whole)


def test_equal_clips_have_the_best_of_each() -> None:
    clip = torch.stack([picture(0), picture(1)])
    assert likeness(clip, clip) == pytest.approx({"psnr": 100, "ssim": 1, "gmsd": 0}, abs=1e-12)


def test_more_grain_is_worse_by_every_figure() -> None:
    clip = picture(0)[None]
    found = [likeness(worse(picture(0), sigma)[None], clip) for sigma in (2, 8, 32)]
    assert [f["psnr"] for f in found] == sorted((f["psnr"] for f in found), reverse=True)
    assert [f["ssim"] for f in found] == sorted((f["ssim"] for f in found), reverse=True)
    assert [f["gmsd"] for f in found] == sorted(f["gmsd"] for f in found)


def test_likeness_has_no_direction() -> None:
    a, b = picture(0)[None], picture(1)[None]
    assert likeness(a, b) == pytest.approx(likeness(b, a), abs=1e-12)


@pytest.mark.parametrize(
    ("side", "names"), [(10, {"psnr", "gmsd"}), (3, {"psnr"}), (11, {"psnr", "ssim", "gmsd"})]
)
def test_frames_too_small_for_a_window_lack_its_figure(side: int, names: set[str]) -> None:
    a, b = picture(0, side, side)[None], picture(1, side, side)[None]
    assert likeness(a, b).keys() == names


def test_one_colour_has_no_figure_that_is_not_finite() -> None:
    black, white = torch.zeros(2, 16, 16, 3).byte(), torch.full((2, 16, 16, 3), 255).byte()
    found = likeness(black, white)
    assert found["psnr"] == 0
    assert 0 <= found["ssim"] < 1e-3
    assert np.isfinite(list(found.values())).all()


def test_clips_of_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="1 × 56×40 and 2 × 56×40"):
        likeness(picture(0)[None], torch.stack([picture(0)] * 2))
