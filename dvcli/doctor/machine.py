"""The device that would be used and why, whether torch can use it, and its attention kernels."""

import os
from importlib.util import find_spec

from dvcli.devices import processors
from dvcli.doctor import Finding, Findings, Plans
from dvcli.errors import DvidError


def device(plans: Plans, asked: str) -> Findings:
    """The device and why it; then whether torch computes on it."""
    from dvcli.stages.device import require

    try:
        require(plans.device)
    except DvidError as error:
        yield Finding(
            name="device", status="fail", said=error.message, fix=error.hint or "`--device cpu`"
        )
        return
    why = "asked for" if asked != "auto" else _why(plans.device)
    yield Finding(name="device", said=f"{_named(plans.device)}, {why}")
    if plans.device == "cpu":
        threads = os.environ.get("OMP_NUM_THREADS")
        mine, there = processors(), os.cpu_count() or 1
        count = f"{mine} of {there} processors" if mine < there else f"{there} processors"
        yield Finding(
            name="threads",
            said=count if threads is None else f"{threads} by `OMP_NUM_THREADS`, {count}",
        )


def _named(device: str) -> str:
    if not device.startswith("cuda"):
        return device
    import torch

    return f"{device}, {torch.cuda.get_device_name(device)}"


def _why(device: str) -> str:
    if device != "cpu":
        return "the best there is"
    from importlib.metadata import version

    if "+cpu" in version("torch"):
        return "as the installed torch is a build without CUDA"
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "as `CUDA_VISIBLE_DEVICES` hides every GPU"
    return "as no GPU is found"


def attention(plans: Plans) -> Finding:
    """The kernels that would compute attention, and why these."""
    on_gpu = plans.device.startswith("cuda")
    if plans.attention == "sdpa":
        return Finding(name="attention", said="sdpa, asked for")
    if plans.attention == "auto" and find_spec("xformers") is None:
        return Finding(name="attention", said="sdpa of torch; xformers is not installed")
    if plans.attention == "auto" and not on_gpu:
        return Finding(
            name="attention", said="sdpa of torch; xformers has no kernels for this device"
        )
    return _tested(plans)


def _tested(plans: Plans) -> Finding:
    """Whether xformers serves: the same result, not slower."""
    from dvcli.models.load import DTYPES
    from dvcli.stages import attention as kernels

    try:
        theirs = kernels.xformers_attention()
    except ImportError as error:
        asked = plans.attention == "xformers"
        return Finding(
            name="attention",
            status="fail" if asked else "warn",
            said=f"xformers cannot be imported: {error}",
            fix="`pip install 'dvid[xformers]'`, or `--attention sdpa`",
        )
    wrong = kernels.self_test(theirs, plans.device, DTYPES[plans.dtype])
    if wrong is None:
        return Finding(name="attention", said="xformers, as its results are the same, not slower")
    if plans.attention == "xformers":
        said = f"xformers does not serve on `{plans.device}`: {wrong}"
        return Finding(name="attention", status="fail", said=said, fix="`--attention sdpa`")
    return Finding(name="attention", said=f"sdpa of torch, as xformers {wrong}")
