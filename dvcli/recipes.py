"""The whole pipeline and every knob on one page: frozen recipes, torch-free.

What changes a pixel is a field here; what changes only the time is in `runtime.py`. A recipe names
its inputs three ways: other recipes (`inputs`, and in `reads` which of their outputs it looks at),
files from outside by the SHA-256 of their content (`externals`), and plain values (`params`).
Together with the stage's name and version these are what its cache key is made of; see
`dvcli.store.keys`. `version` is raised by hand whenever a stage
gives other bytes for the same recipe.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import ClassVar, Literal, TypeAlias

from dvcli.errors import UsageError

Digest: TypeAlias = str  # 64 hex digits, SHA-256
DType = Literal["fp32", "bf16", "fp16"]
Fit = Literal["crop", "squash", "pad"]
Normalise = Literal["clip", "frame"]
TemporalTarget = Literal["zero", "source"]
Trained = Literal["queries", "projections"]
Seen = Literal["first-previous", "first", "full"]
Start = Literal["inverted", "noise"]
Method = Literal["dvid", "tune-a-video", "no-depth", "untuned", "cogvideox"]
Scalar: TypeAlias = str | int | float | bool | None
Params: TypeAlias = Mapping[str, "Scalar | tuple[int, ...] | Mapping[str, float]"]
Reads: TypeAlias = Mapping[str, tuple[str, ...]]  # role → names of outputs

LARGEST_SEED = 2**32 - 1  # torch's generator on the CPU looks at no more than 32 bits


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside `[low, high]` (NaN included) as a usage error."""
    if not low <= value <= high:
        found, least, most = (
            str(n) if isinstance(n, int) else f"{n:g}" for n in (value, low, high)
        )
        named = f"`{name}`" if name.startswith("--") else name
        raise UsageError(f"{named} is `{found}`, which is not between {least} and {most}")


def worded(name: str, text: str) -> None:
    """Refuse a text that is no Unicode text: half a character, as a wrongly decoded byte gives."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{name} is not valid text at character {error.start + 1}",
            hint="the shell's locale decides how its bytes are read: `export LC_ALL=C.UTF-8`",
        ) from None


@dataclass(frozen=True, kw_only=True)
class Base:
    """A checkpoint by the content of the components that the network's output depends on."""

    unet: Digest
    vae: Digest
    text_encoder: Digest
    tokenizer: Digest
    scheduler: Digest


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Continuous depth controls at sampling; the defaults leave the map exactly as it is.

    The map `d` is in [-1, 1], near = +1. In this order: `blend` moves toward another clip's map by
    that weight; `smooth` is the standard deviation, in frames, of a Gaussian over time; `gamma`
    bends `(d + 1) / 2`; `gain` and `bias` act about mid-depth 0; `far` and `near` are where -1
    and +1 end up. `active` is the fraction of the steps, from the first, that see depth at all.
    """

    gain: float = 1.0
    bias: float = 0.0
    gamma: float = 1.0
    near: float = 1.0
    far: float = -1.0
    blend: float = 0.0
    smooth: float = 0.0
    active: float = 1.0

    def __post_init__(self) -> None:
        within("--depth-gain", self.gain, -10, 10)
        within("--depth-bias", self.bias, -2, 2)
        within("--depth-gamma", self.gamma, 0.1, 10)
        within("--depth-near", self.near, -1, 1)
        within("--depth-far", self.far, -1, 1)
        within("--depth-blend", self.blend, 0, 1)
        within("--depth-smooth", self.smooth, 0, 32)
        within("--depth-active", self.active, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Extract:
    """Evenly spaced frames of a clip: uint8 RGB `[f H W 3]`.

    `frames=None` takes every frame, `size=None` the clip's own size; `size` is (width, height).
    `start` and `end` are seconds of presentation time from the clip's first frame.
    """

    stage: ClassVar[str] = "extract"
    version: ClassVar[int] = 1
    reads: ClassVar[Reads] = {}

    clip: Digest
    frames: int | None = 8
    size: tuple[int, int] | None = (512, 512)
    fit: Fit = "crop"
    start: float = 0.0
    end: float | None = None
    stream: int | None = None
    background: str = "#000000"
    tolerate_errors: bool = False

    def __post_init__(self) -> None:
        if self.frames is not None:
            within("--frames", self.frames, 1, 512)
        if self.size is not None:
            within("the width", self.size[0], 8, 8192)
            within("the height", self.size[1], 8, 8192)
        within("--start", self.start, 0, 1e6)
        if self.end is not None:
            within("--end", self.end, 0, 1e6)
        if self.end is not None and not self.end > self.start:
            raise UsageError(
                f"`--end` is `{self.end:g}`, which is not after `--start {self.start:g}`"
            )

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        return {}

    @property
    def externals(self) -> dict[str, Digest]:
        return {"clip": self.clip}

    @property
    def params(self) -> Params:
        return plain(self, without=("clip",))


@dataclass(frozen=True, kw_only=True)
class Depth:
    """Raw disparity of every frame, near = large: float32 `[f 1 a b]`, not yet normalised.

    Either `estimator` (a depth estimator's content digest) or `given` (the digest of the user's
    own depth video or folder) is set. `invert` turns a map in which far is large.
    """

    stage: ClassVar[str] = "depth"
    version: ClassVar[int] = 1
    reads: ClassVar[Reads] = {"frames": ("frames",)}

    frames: Extract
    estimator: Digest | None = None
    given: Digest | None = None
    invert: bool = False

    def __post_init__(self) -> None:
        if (self.estimator is None) == (self.given is None):
            raise UsageError("depth comes from an estimator or from a given video, one of the two")

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        return {"frames": self.frames}

    @property
    def externals(self) -> dict[str, Digest]:
        if self.given is not None:
            return {"given": self.given}
        assert self.estimator is not None
        return {"estimator": self.estimator}

    @property
    def params(self) -> Params:
        choice = {} if self.given is None else plain(self.choice, without=("clip", "stream"))
        return {"invert": self.invert, **choice}

    @property
    def choice(self) -> Extract:
        """How a given depth video is read: as the clip is, but from its own main stream."""
        return replace(self.frames, stream=None)


@dataclass(frozen=True, kw_only=True)
class Tune:
    """One-shot tuning: the deltas of the trainable tensors, and the clip's latents.

    `depth=None` is a base without depth (the Tune-A-Video case). `steps=0` is the untuned
    baseline. `temporal_weight` is λ of the temporal loss (eq. 8) and `temporal_target` what
    consecutive predicted latents are compared with. `train` says whether only the query
    projections of the spatial attention learn, or all its projections; the temporal layers always
    do. `attention` is which frames a frame's spatial attention sees, here and in later stages.
    """

    stage: ClassVar[str] = "tune"
    version: ClassVar[int] = 1
    reads: ClassVar[Reads] = {"frames": ("frames",), "depth": ("disparity",)}

    frames: Extract
    depth: Depth | None
    base: Base
    prompt: str
    steps: int = 500
    lr: float = 1e-5
    weight_decay: float = 1e-2
    grad_clip: float = 1.0
    temporal_weight: float = 0.1
    temporal_target: TemporalTarget = "source"
    train: Trained = "queries"
    attention: Seen = "first-previous"
    normalise: Normalise = "clip"
    seed: int = 33
    dtype: DType = "fp32"

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise UsageError("the caption is empty", hint="describe the clip in a few words")
        worded("the caption", self.prompt)
        within("--steps", self.steps, 0, 1_000_000)
        within("--lr", self.lr, 0, 1)
        within("--weight-decay", self.weight_decay, 0, 1)
        within("--grad-clip", self.grad_clip, 1e-6, 1e6)
        within("--temporal-weight", self.temporal_weight, 0, 1e6)
        within("--seed", self.seed, 0, LARGEST_SEED)

    @property
    def method(self) -> Method:
        """What this way of learning a clip is called; Tune-A-Video has no temporal loss."""
        if self.steps == 0:
            return "untuned"
        if self.depth is not None:
            return "dvid"
        return "tune-a-video" if self.temporal_weight == 0 else "no-depth"

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        if self.depth is None:
            return {"frames": self.frames}
        return {"frames": self.frames, "depth": self.depth}

    @property
    def externals(self) -> dict[str, Digest]:
        return asdict(self.base)

    @property
    def params(self) -> Params:
        without = ["frames", "depth", "base"]
        if self.depth is None:
            without += ["normalise"]
        if self.temporal_weight == 0:
            without += ["temporal_target"]
        if self.steps == 0:
            return plain(self, only=("steps", "dtype"))
        return plain(self, without=without)


@dataclass(frozen=True, kw_only=True)
class Invert:
    """DDIM inversion of the clip's latents on the tuned network: the latent to sample from."""

    stage: ClassVar[str] = "invert"
    version: ClassVar[int] = 1
    reads: ClassVar[Reads] = {"tuned": ("latents", "deltas"), "depth": ("disparity",)}

    tuned: Tune
    steps: int = 50
    refine: int = 0
    prompt: str = ""
    trajectory: bool = False
    dtype: DType = "fp32"

    def __post_init__(self) -> None:
        within("--steps", self.steps, 1, 1000)
        within("--refine", self.refine, 0, 20)
        worded("the prompt", self.prompt)

    @property
    def method(self) -> Method:
        return self.tuned.method

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        depth = self.tuned.depth
        return {"tuned": self.tuned} if depth is None else {"tuned": self.tuned, "depth": depth}

    @property
    def externals(self) -> dict[str, Digest]:
        return asdict(self.tuned.base)

    @property
    def params(self) -> Params:
        return plain(self, without=("tuned",)) | conditioning(self.tuned)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A new clip from the inverted latent under an edited prompt: uint8 RGB `[f H W 3]`.

    `prompt` and `negative` are final, styles already resolved. `blend` is the depth of another
    clip for `controls.blend`. `strength` is the share of the steps that are run, the last ones:
    below 1 they start from the latent that the inversion passed there (so the inversion keeps its
    trajectory), or from the clip with that much noise. Guidance acts in the steps whose share of
    the way, from 0 at the first, is in [`guidance_from`, `guidance_until`). Deep features of the
    network are computed anew every `reuse` steps. `seed` acts only where randomness does, with
    `eta > 0` or a noise start, and `negative` only where guidance does, off 1; elsewhere both are
    their defaults, whatever was given, so that one clip has one recipe.
    """

    stage: ClassVar[str] = "sample"
    version: ClassVar[int] = 1
    inverted: Invert
    prompt: str
    negative: str = ""
    guidance: float = 7.5
    guidance_from: float = 0.0
    guidance_until: float = 1.0
    strength: float = 1.0
    reuse: int = 1
    eta: float = 0.0
    start: Start = "inverted"
    seed: int = 0
    controls: Controls = field(default_factory=Controls)
    blend: Depth | None = None
    dtype: DType = "fp32"

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise UsageError("the prompt is empty", hint="say what the new clip shows")
        worded("the prompt", self.prompt)
        worded("the negative prompt", self.negative)
        within("--guidance", self.guidance, 0, 100)
        within("--guidance-from", self.guidance_from, 0, 1)
        within("--guidance-until", self.guidance_until, 0, 1)
        within("--strength", self.strength, 0, 1)
        within("--reuse", self.reuse, 1, 100)
        within("--eta", self.eta, 0, 1)
        within("--seed", self.seed, 0, LARGEST_SEED)
        if not self.random:
            object.__setattr__(self, "seed", Sample.seed)
        if not self.guided:
            object.__setattr__(self, "negative", Sample.negative)
        if self.midway and not self.inverted.trajectory:
            object.__setattr__(self, "inverted", replace(self.inverted, trajectory=True))
        if (self.controls.blend > 0) != (self.blend is not None):
            raise UsageError("a depth blend takes both a weight and another clip's depth")
        if self.inverted.tuned.depth is None and self.controls != Controls():
            raise UsageError("this run has no depth, so depth controls have nothing to act on")

    @property
    def method(self) -> Method:
        return self.inverted.method

    @property
    def random(self) -> bool:
        """Whether the seed can change the result."""
        return self.eta > 0 or self.start == "noise"

    @property
    def guided(self) -> bool:
        """Whether the negative prompt can change the result: guidance 1 never looks at it."""
        return self.guidance != 1 and self.guidance_from < self.guidance_until

    @property
    def midway(self) -> bool:
        """Whether it starts from a latent that the inversion passed on its way."""
        return self.start == "inverted" and self.strength < 1

    @property
    def reads(self) -> Reads:
        return {
            "tuned": ("latents", "deltas"),
            "depth": ("disparity",),
            "inverted": ("trajectory" if self.midway else "latents",),
            "blend": ("disparity",),
        }

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        found = self.inverted.inputs
        if self.start == "inverted":
            found["inverted"] = self.inverted
        if self.blend is not None:
            found["blend"] = self.blend
        return found

    @property
    def externals(self) -> dict[str, Digest]:
        return asdict(self.inverted.tuned.base)

    @property
    def params(self) -> Params:
        without = ["inverted", "blend", "controls"]
        if not self.random:
            without.append("seed")
        if not self.guided:
            without.append("negative")
        if self.guidance == 1:
            without += ["guidance_from", "guidance_until"]
        own: dict[str, object] = {
            **plain(self, without=without),
            "steps": self.inverted.steps,
            **conditioning(self.inverted.tuned),
        }
        if self.inverted.tuned.depth is not None:
            own["controls"] = asdict(self.controls)
        return own  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class VideoModel:
    """A CogVideoX checkpoint by the content of its components."""

    transformer: Digest
    vae: Digest
    text_encoder: Digest
    tokenizer: Digest
    scheduler: Digest


@dataclass(frozen=True, kw_only=True)
class CogVideoX:
    """A clip of CogVideoX, to compare with: uint8 RGB `[f H W 3]`, of `frames`' count and size.

    It starts from the clip under the noise of the last `strength` of its steps, or from noise and
    the text alone. The model works at `size` (width, height), and on `stride` frames for each step
    from one of `frames` to the next, of which the first and every `stride`-th are kept. `tiling`
    has its VAE work in overlapping tiles: less memory, slightly other pixels.
    """

    stage: ClassVar[str] = "cogvideox"
    version: ClassVar[int] = 1
    reads: ClassVar[Reads] = {"clip": ("frames",)}

    frames: Extract
    model: VideoModel
    prompt: str
    negative: str = ""
    guidance: float = 6.0
    steps: int = 50
    strength: float = 0.8
    start: Literal["clip", "noise"] = "clip"
    size: tuple[int, int] = (720, 480)
    stride: int = 1
    tiling: bool = False
    seed: int = 0
    dtype: DType = "fp32"

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise UsageError("the prompt is empty", hint="say what the new clip shows")
        worded("the prompt", self.prompt)
        worded("the negative prompt", self.negative)
        within("--guidance", self.guidance, 1, 100)
        within("--steps", self.steps, 1, 1000)
        within("--strength", self.strength, 0, 1)
        within("the model's width", self.size[0], 8, 8192)
        within("the model's height", self.size[1], 8, 8192)
        within("--stride", self.stride, 1, 512)
        within("--seed", self.seed, 0, LARGEST_SEED)
        if self.frames.frames is None or self.frames.size is None:
            raise UsageError("CogVideoX needs the number of frames and their size chosen")
        within("the number of frames at this `--stride`", self.count, 1, 512)
        if self.start == "noise":
            object.__setattr__(self, "strength", CogVideoX.strength)
        elif self.ran < 1:
            raise UsageError(
                f"--strength {self.strength:g} of {self.steps} steps is not one step",
                hint="a larger `--strength`, or more `--steps`",
            )
        if not self.guidance > 1:
            object.__setattr__(self, "negative", CogVideoX.negative)

    @property
    def count(self) -> int:
        """How many frames of the model the result is taken from."""
        assert self.frames.frames is not None
        return self.stride * (self.frames.frames - 1) + 1

    @property
    def ran(self) -> int:
        """How many of the steps are run."""
        return self.steps if self.start == "noise" else int(self.steps * self.strength)

    @property
    def clip(self) -> Extract:
        """The frames that the model starts from."""
        return replace(self.frames, frames=self.count)

    @property
    def method(self) -> Method:
        return "cogvideox"

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        return {"clip": self.clip} if self.start == "clip" else {}

    @property
    def externals(self) -> dict[str, Digest]:
        return asdict(self.model)

    @property
    def params(self) -> Params:
        without = ["frames", "model", *(["strength"] if self.start == "noise" else [])]
        if not self.guidance > 1:
            without.append("negative")
        kept = {"frames": self.frames.frames, "frame_size": self.frames.size}
        return {**plain(self, without=without), **kept}


# What has frames to be judged; of an inversion that is its reconstruction.
Judged: TypeAlias = Sample | CogVideoX | Extract | Invert


def shown(frames: Judged) -> tuple[str, ...]:
    """The output of a stage that holds the frames to be judged."""
    return ("reconstruction",) if isinstance(frames, Invert) else ("frames",)


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Figures of one clip by CLIP: frame consistency and, with a prompt, textual alignment."""

    stage: ClassVar[str] = "eval"
    version: ClassVar[int] = 1

    frames: Judged
    clip_model: Digest
    prompt: str | None = None

    def __post_init__(self) -> None:
        worded("the prompt", self.prompt or "")

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        return {"frames": self.frames}

    @property
    def reads(self) -> Reads:
        return {"frames": shown(self.frames)}

    @property
    def externals(self) -> dict[str, Digest]:
        return {"clip_model": self.clip_model}

    @property
    def params(self) -> Params:
        return plain(self, only=("prompt",))


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """A clip beside a reference, with nothing to choose."""

    frames: Judged
    reference: Judged

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        return {"frames": self.frames, "reference": self.reference}

    @property
    def reads(self) -> Reads:
        return {"frames": shown(self.frames), "reference": shown(self.reference)}

    @property
    def externals(self) -> dict[str, Digest]:
        return {}

    @property
    def params(self) -> Params:
        return {}


@dataclass(frozen=True, kw_only=True)
class Motion(_Compared):
    """Motion fidelity of a clip: how its optical flow agrees with that of the reference."""

    stage: ClassVar[str] = "motion"
    version: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Depth agreement of a clip: depth estimated on it against the reference depth.

    `invert` turns the estimator's map, in which far is large, as the reference's was turned.
    """

    stage: ClassVar[str] = "agreement"
    version: ClassVar[int] = 1

    frames: Judged
    reference: Depth
    estimator: Digest
    invert: bool = False

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        return {"frames": self.frames, "reference": self.reference}

    @property
    def reads(self) -> Reads:
        return {"frames": shown(self.frames), "reference": ("disparity",)}

    @property
    def externals(self) -> dict[str, Digest]:
        return {"estimator": self.estimator}

    @property
    def params(self) -> Params:
        return plain(self, only=("invert",))


@dataclass(frozen=True, kw_only=True)
class Likeness(_Compared):
    """Likeness of a clip to the reference, pixel by pixel: PSNR, SSIM and GMSD."""

    stage: ClassVar[str] = "likeness"
    version: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class Preference:
    """PickScore of a clip: what people would choose for the prompt, by a CLIP taught by choices."""

    stage: ClassVar[str] = "preference"
    version: ClassVar[int] = 1

    frames: Judged
    pick_model: Digest
    prompt: str

    def __post_init__(self) -> None:
        worded("the prompt", self.prompt)

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        return {"frames": self.frames}

    @property
    def reads(self) -> Reads:
        return {"frames": shown(self.frames)}

    @property
    def externals(self) -> dict[str, Digest]:
        return {"pick_model": self.pick_model}

    @property
    def params(self) -> Params:
        return plain(self, only=("prompt",))


Metric: TypeAlias = Eval | Motion | Agreement | Likeness | Preference


@dataclass(frozen=True, kw_only=True)
class Render:
    """A media file of frames, of depth as grey levels, or of an inversion's reconstruction.

    `suffix` names the format; `provenance` is embedded. Only mp4 and webm have a quality `crf`, and
    a png strip has no rate.
    """

    stage: ClassVar[str] = "render"
    version: ClassVar[int] = 1

    source: "Sample | CogVideoX | Extract | Depth | Invert"
    suffix: str = ".mp4"
    fps: float = 8.0
    crf: int = 17
    provenance: str | None = None

    def __post_init__(self) -> None:
        within("--fps", self.fps, 0.1, 240)
        within("--crf", self.crf, 0, 51)

    @property
    def inputs(self) -> dict[str, "Recipe"]:
        return {"source": self.source}

    @property
    def externals(self) -> dict[str, Digest]:
        return {}

    @property
    def params(self) -> Params:
        without = ["source"]
        if self.suffix not in (".mp4", ".webm"):
            without.append("crf")
        if self.suffix == ".png":
            without.append("fps")
        return {"source": self.source.stage, **plain(self, without=without)}

    @property
    def reads(self) -> Reads:
        match self.source:
            case Depth():
                return {"source": ("disparity",)}
            case Invert():
                return {"source": ("reconstruction",)}
        return {"source": ("frames",)}


Recipe: TypeAlias = Extract | Depth | Tune | Invert | Sample | CogVideoX | Metric | Render
STAGES: dict[str, type[Recipe]] = {
    kind.stage: kind for kind in (Extract, Depth, Tune, Invert, Sample, CogVideoX, Eval, Render)
} | {kind.stage: kind for kind in (Motion, Agreement, Likeness, Preference)}


def method_of(recipe: Recipe) -> Method | None:
    """Which method made it; None for what every method begins with, and for figures."""
    return recipe.method if isinstance(recipe, Tune | Invert | Sample | CogVideoX) else None


def conditioning(tuned: Tune) -> dict[str, Scalar]:
    """What later stages take over from tuning: which frames attention sees, how depth is scaled."""
    depth: dict[str, Scalar] = {} if tuned.depth is None else {"normalise": tuned.normalise}
    return {"attention": tuned.attention, **depth}


def plain(
    recipe: object,
    *,
    only: tuple[str, ...] | None = None,
    without: "tuple[str, ...] | list[str]" = (),
) -> dict[str, Scalar | tuple[int, ...]]:
    """The recipe's own fields as values, every one that is asked for present."""
    names = [f.name for f in fields(recipe)]  # type: ignore[arg-type]
    chosen = [n for n in names if (only is None or n in only) and n not in without]
    return {name: getattr(recipe, name) for name in chosen}
