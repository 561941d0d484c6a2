"""Where and how the functions work: the cache, the device, and what is known of the inputs."""

import logging
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dvcli.recipes import Digest, DType, Recipe, Sample, Tune
from dvcli.runtime import Attention, GradCheckpointing, Memory, Progress, Runtime

if TYPE_CHECKING:
    from dvcli.cli.sources import Sources
    from dvcli.models.fingerprint import Checkpoint
    from dvcli.store import Artifact, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where results are kept and what they are computed on; nothing of it but `dtype` is in a key.

    `device` is `auto`, `cpu`, `mps`, `cuda` or `cuda:N`. `cache` is the folder of the cache, by
    default the command line's, `$DVID_CACHE_DIR` included; `dvid.toml` and other variables are the
    command line's own. `offline` never asks the network for a model. `memory_limit`, in bytes,
    stands in for what the device has free. `verbose` reports progress on stderr, as commands do.

    Raises `UsageError` where the device or the number format is none.
    """

    device: str = "auto"
    dtype: Literal["auto", DType] = "auto"
    attention: Attention = Runtime.attention
    checkpoint_grad: GradCheckpointing = Runtime.checkpoint_grad
    memory: Memory = Runtime.memory
    memory_limit: int | None = None
    cache: Path | None = None
    offline: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        self.runtime  # noqa: B018  # refuses a device that is none
        self.number_format  # noqa: B018

    @cached_property
    def store(self) -> "Store":
        """The cache, shared with the command line and other processes."""
        from dvcli.store import Store

        return Store.open(self.cache)

    @cached_property
    def sources(self) -> "Sources":
        """Where clips and checkpoints lie, by content."""
        from dvcli.cli.sources import Sources

        return Sources(self.store, offline=self.offline)

    @cached_property
    def runtime(self) -> Runtime:
        """What the stages are given to work with."""
        from dvcli.devices import resolve_device

        return Runtime(
            device=resolve_device(self.device),
            attention=self.attention,
            checkpoint_grad=self.checkpoint_grad,
            memory=self.memory,
            memory_limit=self.memory_limit,
            progress=self._progress(),
            locate=lambda digest: self.sources.locate(digest),
        )

    @cached_property
    def number_format(self) -> DType:
        """What `dtype` means on this device."""
        from dvcli.devices import resolve_dtype

        return resolve_dtype(self.dtype, self.runtime.device)

    def checkpoint(self, model: str | Path) -> "Checkpoint":
        """The checkpoint that the reference names, by content; fetched first when it must be."""
        return self.sources.model(str(model))

    def realise(self, recipe: Recipe) -> "Artifact":
        """The recipe's artifact, out of the cache or built; raises what the command line says."""
        from dvcli.stages import realise

        before = len(self.store.failures)
        artifact = realise(recipe, self.store, self.runtime)
        for failure in self.store.failures[before:]:
            log.warning("%s; the result is at hand until this process ends", failure.message)
        return artifact

    def warn_of_overflow(self, tokenizer: Digest, recipe: Tune | Sample) -> None:
        """Log which words of the prompt the text encoder will not see, where it is still to be."""
        from dvcli.stages import find

        if find(recipe, self.store) is not None:
            return
        from dvcli.cli.quoting import in_short
        from dvcli.models.tokens import overflow

        if cut := overflow(self.sources.locate(tokenizer), recipe.prompt):
            said = f"the text encoder does not see the end of the prompt: `{cut}`"
            log.warning("%s", in_short(said))

    def _progress(self) -> Progress:
        from dvcli.cli.progress import reporter

        return reporter(quiet=not self.verbose)


@cache
def usual() -> Workspace:
    """The workspace of calls that name none."""
    return Workspace()
