"""Phase `depth`: the estimator of inverse depth that the family carries, as SD2 carries MiDaS."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, l1_loss
from transformers import DPTForDepthEstimation


def estimated(
    estimator: DPTForDepthEstimation, pictures: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, "n 1 h w"]:
    """Inverse depth at the pictures' own size; pictures are in [-1, 1]."""
    got = estimator(pictures).predicted_depth[:, None].float()
    return interpolate(got, size=pictures.shape[-2:], mode="bilinear", antialias=True)


def estimating_loss(
    estimator: DPTForDepthEstimation,
    pictures: Float[Tensor, "n 3 h w"],
    depth: Float[Tensor, "n 1 h w"],
) -> Float[Tensor, ""]:
    """L1 of inverse depth, and of its steps at three scales, which keeps edges sharp."""
    got = estimated(estimator, pictures)
    wrong = got - depth
    loss = l1_loss(got, depth)
    for stride in (1, 2, 4):
        part = wrong[:, :, ::stride, ::stride]
        loss = loss + 0.3 * (part[:, :, 1:] - part[:, :, :-1]).abs().mean()
        loss = loss + 0.3 * (part[..., 1:] - part[..., :-1]).abs().mean()
    return loss


@torch.no_grad()
def agreement(
    estimator: DPTForDepthEstimation,
    pictures: Float[Tensor, "n 3 h w"],
    depth: Float[Tensor, "n 1 h w"],
) -> float:
    """Mean R² after each map's best scale and shift: the squared correlation with the truth."""
    squares = []
    for some, truth in zip(torch.split(pictures, 50), torch.split(depth, 50), strict=True):
        a = estimated(estimator, some).flatten(1)
        b = truth.flatten(1)
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        squares.append((a * b).sum(1) ** 2 / (a.square().sum(1) * b.square().sum(1)).clamp(1e-9))
    return float(torch.cat(squares).mean())
