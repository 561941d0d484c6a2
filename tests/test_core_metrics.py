"""The figures of an evaluation against cases worked by hand."""

import math

import pytest
import torch

from dvcli.core.metrics import frame_consistency, psnr, textual_alignment
from dvcli.errors import InputError


def test_a_frozen_clip_is_wholly_consistent() -> None:
    assert frame_consistency(torch.tensor([[3.0, 4.0]] * 5)) == pytest.approx((100, 100))


def test_all_pairs_and_consecutive_pairs_are_told_apart() -> None:
    turn = [0.0, math.pi / 3, 2 * math.pi / 3]  # cosines: ½ twice, and -½ from first to last
    embeddings = torch.tensor([[math.cos(a), math.sin(a)] for a in turn])
    assert frame_consistency(embeddings) == pytest.approx((100 / 6, 50), abs=1e-4)


def test_consistency_does_not_depend_on_the_length_of_embeddings() -> None:
    e = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    scaled = e * torch.tensor([1.0, 2.0, 30.0, 0.1])[:, None]
    assert frame_consistency(scaled) == pytest.approx(frame_consistency(e), abs=1e-4)


def test_one_frame_has_no_consistency() -> None:
    with pytest.raises(InputError, match="only one"):
        frame_consistency(torch.ones(1, 3))


def test_textual_alignment_is_the_mean_cosine() -> None:
    frames = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [3.0, 0.0]])
    assert textual_alignment(frames, torch.tensor([7.0, 0.0])) == pytest.approx(25)


def test_psnr_of_a_known_error() -> None:
    a = torch.zeros(2, 3)
    assert psnr(a, a + 0.1, 1.0) == pytest.approx(20, abs=1e-5)
    assert psnr(a, a + 0.1, 2.0) == pytest.approx(20 + 20 * math.log10(2), abs=1e-5)


def test_psnr_of_equal_clips_is_infinite() -> None:
    assert psnr(torch.ones(3), torch.ones(3), 1.0) == math.inf
