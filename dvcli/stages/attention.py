"""Which kernels compute attention: torch's own, or xformers where it proves itself."""

import logging
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dvcli.core.attention import Attend, attend_by_products, few_by_products, sliced
from dvcli.errors import MissingError, ResourceError
from dvcli.runtime import Runtime

log = logging.getLogger(__name__)
PROBE = (2, 8, 1024, 64)  # batch, heads, tokens, dimensions of the self-test
SHORT = (4096, 5, 8, 64)  # the same over time, where each position of the picture has 8 tokens
SPREADS = (1, 4, 16)  # standard deviations of queries and keys in the self-test
TOLERANCE = 2e-2  # of the largest value, for half-precision kernels that sum in another order
GAIN = 0.8  # of the time: the stopwatch is to say the same each time
SLICE = 2**26  # products of a query with a key held at once where memory is short


def chosen(runtime: Runtime, dtype: torch.dtype) -> Attend:
    """The attention for this device, a few queries at a time where memory is short.

    Kernels for MPS may hold every product of a query with a key, so there it always is.
    """
    attend = kernel(runtime, dtype)
    short = runtime.memory == "low" or runtime.device == "mps"
    return sliced(attend, SLICE) if short else attend


def over_time(runtime: Runtime, dtype: torch.dtype, attend: Attend) -> Attend:
    """The attention over frames: `attend`, or for `auto` on CUDA plain products if they are faster.

    A dozen frames fill a small part of a flash kernel's tile.
    """
    able = runtime.device.startswith("cuda") and runtime.memory != "low"
    if runtime.attention != "auto" or not able:
        return attend
    wrong = self_test(attend_by_products, runtime.device, dtype, probe=SHORT, at_most=GAIN)
    if wrong is None:
        return partial(few_by_products, attend)
    log.info("attention over time as over frames, as products %s", wrong)
    return attend


def kernel(runtime: Runtime, dtype: torch.dtype) -> Attend:
    """The attention for this device: `sdpa`, `xformers`, or for `auto` the faster that is right.

    Raises `MissingError` when xformers is asked for and absent, `ResourceError` when it is asked
    for and gives other results or none on this device.
    """
    if runtime.attention == "sdpa":
        return F.scaled_dot_product_attention
    on_cuda = runtime.device.startswith("cuda")
    if runtime.attention == "auto" and not on_cuda:
        return F.scaled_dot_product_attention
    try:
        theirs = xformers_attention()
    except ImportError as error:
        if runtime.attention == "auto":
            return F.scaled_dot_product_attention
        raise MissingError(
            f"xformers cannot be imported: {error}", hint="`pip install dvid[xformers]`"
        ) from error
    wrong = self_test(theirs, runtime.device, dtype)
    if wrong is None:
        return theirs
    if runtime.attention == "xformers":
        raise ResourceError(
            f"xformers does not serve on `{runtime.device}`: {wrong}", hint="`--attention sdpa`"
        )
    log.info("attention by sdpa, as xformers %s", wrong)
    return F.scaled_dot_product_attention


def xformers_attention() -> Attend:
    """xformers' memory-efficient attention on `b heads n d`."""
    from xformers.ops import memory_efficient_attention

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # xformers counts b, tokens, heads, dimensions.
        mixed: Tensor = memory_efficient_attention(*(x.transpose(1, 2) for x in (q, k, v)))
        return mixed.transpose(1, 2)

    return attend


def self_test(
    attend: Attend,
    device: str,
    dtype: torch.dtype,
    *,
    probe: tuple[int, int, int, int] = PROBE,
    at_most: float = 1.05,
) -> str | None:
    """What is wrong with it beside torch's own on this device: nothing, or a few words.

    It may take `at_most` as much time.
    """
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(probe, generator=generator).to(device, dtype) for _ in range(3))
    ours = F.scaled_dot_product_attention
    try:
        for spread in SPREADS:
            spreading = q * spread, k * spread, v
            if not (off := apart(attend(*spreading), ours(*spreading))) <= TOLERANCE:
                return f"differs by {off:.2g}"
        for mine, theirs in zip(slopes(attend, q, k, v), slopes(ours, q, k, v), strict=True):
            if not (off := apart(mine, theirs)) <= TOLERANCE:
                return f"has gradients that differ by {off:.2g}"
        slower = fastest(lambda: attend(q, k, v)) / fastest(lambda: ours(q, k, v))
    except (RuntimeError, NotImplementedError, ValueError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"takes {slower:.2f} times as long" if slower > at_most else None


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference as a part of the other's largest value; NaN where there is one."""
    return ((one - other).abs().max() / other.abs().max()).item()


def slopes(attend: Attend, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the sum of squares by queries, keys and values."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    return torch.autograd.grad(attend(*leaves).float().square().sum(), leaves)


def fastest(work: Callable[[], Tensor], rounds: int = 5) -> float:
    """Seconds of the fastest of a few rounds."""
    best = float("inf")
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        if work().is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return best
