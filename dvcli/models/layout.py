"""What a model's folder is made of, told from its file names and JSON files alone.

Four kinds of folder are known: a `base` and a `cogvideox` in the diffusers format
(`model_index.json` and a folder per component), and single models in the transformers format, a
`depth` estimator and a `clip`.
Only safetensors weights count, and a folder that asks for code of its own is refused.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from dvcli.errors import InputError
from dvcli.models.configs import read_json
from dvcli.models.opening import inside

Kind = Literal["base", "depth", "clip", "cogvideox"]

REQUIRED = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
COMPONENTS = (*REQUIRED, "depth_estimator", "feature_extractor")
VIDEO_COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
PIPELINES = ("StableDiffusionDepth2ImgPipeline", "StableDiffusionPipeline")
VIDEO_PIPELINES = ("CogVideoXPipeline", "CogVideoXVideoToVideoPipeline")
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model"
TRANSFORMERS_WEIGHTS = "model"
PRECISIONS = (None, "fp16")  # in the order of preference
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
TEXTS = (".json", ".txt")
ADAPTER = "adapter_config.json"  # where peft is installed transformers would load it unasked
PIECES = "spiece.model"  # a SentencePiece vocabulary, which is data only
# The `image_processor` of the second, if any, comes before the first.
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
UNPICKLE = (
    "if you trust the file, `DiffusionPipeline.from_pretrained(OLD).save_pretrained(NEW)` of"
    " diffusers writes the same model as safetensors"
)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weight files of one component in shard order, and the index of several."""

    files: tuple[str, ...]
    index: str | None = None


def choose_weights(names: Iterable[str], stem: str) -> Weights | None:
    """The safetensors files to load among a folder's file names; None when there are none.

    Full precision comes before `fp16`. Where a whole file and shards lie side by side, diffusers
    takes the shards and transformers the whole file; so does this.
    """
    known = set(names)
    for variant in PRECISIONS:
        mark = "" if variant is None else f".{variant}"
        whole = f"{stem}{mark}.safetensors"
        single = Weights(files=(whole,)) if whole in known else None
        sharded = _shards(known, stem, mark)
        first, second = (sharded, single) if stem == DIFFUSERS_WEIGHTS else (single, sharded)
        if first is not None or second is not None:
            return first or second
    return None


def _shards(known: Collection[str], stem: str, mark: str) -> Weights | None:
    index = f"{stem}.safetensors.index{mark}.json"
    pattern = re.compile(re.escape(f"{stem}{mark}") + r"-\d{5}-of-(\d{5})\.safetensors")
    found = sorted(name for name in known if pattern.fullmatch(name))
    if index not in known or not found:
        return None
    count = pattern.fullmatch(found[0])
    if count is None or int(count[1]) != len(found):
        return None
    return Weights(files=tuple(found), index=index)


def stem_of(component: str) -> str | None:
    """What the component's weight files are called; None for a component without weights."""
    if component in ("unet", "transformer", "vae"):
        return DIFFUSERS_WEIGHTS
    return (
        TRANSFORMERS_WEIGHTS if component in ("text_encoder", "depth_estimator", "clip") else None
    )


def needed(names: Iterable[str], kind: Kind) -> list[str]:
    """The files of a repository that are worth fetching, by their names alone.

    Raises `InputError` when the weights are there only as pickles, or not at all.
    """
    known = list(names)
    if "model_index.json" in known and kind != "clip":
        wanted = {"base": COMPONENTS, "cogvideox": VIDEO_COMPONENTS}.get(
            kind, ("depth_estimator", "feature_extractor")
        )
        chosen = ["model_index.json"]
        for part in wanted:
            inside = [PurePosixPath(name).name for name in known if _parent(name) == part]
            chosen += [f"{part}/{name}" for name in _files(part, inside)]
        return chosen
    single = "clip" if kind == "clip" else "depth_estimator"
    return _files(single, [name for name in known if "/" not in name])


def _parent(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _files(component: str, names: list[str]) -> list[str]:
    texts = [n for n in names if n.endswith(TEXTS) and ".safetensors.index" not in n]
    texts += [n for n in names if component == "tokenizer" and n == PIECES]
    stem = stem_of(component)
    if stem is None or not names:
        return texts
    weights = require_weights(names, component)
    return [*texts, *weights.files, *([] if weights.index is None else [weights.index])]


def require_weights(names: Iterable[str], component: str, where: str = "") -> Weights:
    """The component's weight files, or an `InputError` that says what is there instead."""
    known = list(names)
    stem = stem_of(component)
    assert stem is not None
    place = f"`{where}`" if where else f"the {component}"
    if ADAPTER in known:
        raise InputError(
            f"{place} has an adapter beside its weights, `{ADAPTER}`, which is not loaded",
            hint="merge the adapter into the weights, or take its files away",
        )
    weights = choose_weights(known, stem)
    if weights is not None:
        return weights
    if any(name.endswith(PICKLES) for name in known):
        raise InputError(
            f"{place} has its weights only as a pickle, which can run any code", hint=UNPICKLE
        )
    if any(name.endswith(".safetensors") for name in known):
        raise InputError(f"{place} has no complete set of `{stem}*.safetensors` files")
    raise InputError(f"{place} has no `{stem}.safetensors`")


def require(folder: Path, kind: Kind) -> None:
    """Raise `InputError`, saying what lacks, unless the folder holds a model of that kind."""
    if not folder.is_dir():
        raise InputError(
            f"`{folder}` is a file, not a checkpoint folder",
            hint="`StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)` of"
            " diffusers turns a single file into one",
        )
    root = folder.resolve()
    has_index = (folder / "model_index.json").is_file()
    if kind in ("base", "cogvideox"):
        if not has_index:
            option = "--model" if kind == "base" else "--base"
            raise InputError(
                f"`{folder}` is no checkpoint, it has no `model_index.json`",
                hint=f"`{option}` takes a folder in the diffusers format",
            )
        require_pipeline(folder, kind)
        for part in REQUIRED if kind == "base" else VIDEO_COMPONENTS:
            _require_component(folder / part, part, root, kind)
        if kind == "base" and (folder / "depth_estimator").is_dir():
            _require_component(folder / "depth_estimator", "depth_estimator", root)
    elif kind == "depth" and has_index:
        _require_component(folder / "depth_estimator", "depth_estimator", root)
    else:
        _require_component(folder, "clip" if kind == "clip" else "depth_estimator", root)
        if kind == "clip":
            require_tokenizer(folder, root)


def require_pipeline(folder: Path, kind: Kind = "base") -> None:
    """Raise `InputError` unless the `model_index.json` is that of a model of that kind."""
    index = read_json(folder / "model_index.json", folder.resolve())
    known = PIPELINES if kind == "base" else VIDEO_PIPELINES
    found = index.get("_class_name")
    if found not in known:
        if kind == "cogvideox":
            hint = "`--base cogvideox-2b` is one"
        elif found in VIDEO_PIPELINES:
            hint = "`dvid sample --method cogvideox --base` takes it"
        else:
            hint = "`--model sd2-depth` is the base this is made for"
        raise InputError(
            f"`{folder}` is a `{str(found)[:80]}`, not one of `{'`, `'.join(known)}`", hint=hint
        )
    for part in components(index):
        entry = index.get(part)
        module = entry[0] if entry and isinstance(entry, list) else entry
        if module and module not in ("diffusers", "transformers"):
            raise InputError(
                f"`{folder}` takes its {part} from the module `{str(module)[:80]}`,"
                " which is never run"
            )


def components(index: Mapping[str, Any]) -> tuple[str, ...]:
    """The components that count of a checkpoint with that `model_index.json`."""
    return VIDEO_COMPONENTS if index.get("_class_name") in VIDEO_PIPELINES else COMPONENTS


def _require_component(folder: Path, part: str, root: Path, kind: Kind = "base") -> None:
    if not folder.is_dir():
        raise InputError(f"`{folder.parent}` has no `{part}` folder")
    inside(folder, root)
    if stem_of(part) is not None:
        read_json(folder / "config.json", root)
        require_weights([path.name for path in folder.iterdir()], part, str(folder))
    elif part == "scheduler":
        read_json(folder / "scheduler_config.json", root)
    elif part == "tokenizer" and kind == "cogvideox":
        require_pieces(folder, root)
    elif part == "tokenizer":
        require_tokenizer(folder, root)


def processor_folder(estimator: Path) -> Path:
    """Where the settings of an estimator's image processor lie: there, or in a checkpoint beside.

    The `feature_extractor` counts where the estimator has none of its own.
    """
    beside = estimator.parent / "feature_extractor"
    own = (estimator / PROCESSOR[0]).exists()
    return estimator if own or not (estimator.parent / "model_index.json").is_file() else beside


def require_tokenizer(folder: Path, root: Path | None = None) -> None:
    """Raise `InputError` where transformers would quietly make a tokenizer that knows no words."""
    names = {path.name for path in folder.iterdir()}
    if not ({"vocab.json", "merges.txt"} <= names or "tokenizer.json" in names):
        raise InputError(
            f"`{folder}` has neither `vocab.json` and `merges.txt` nor `tokenizer.json`"
        )
    for name in names & {"tokenizer_config.json", "special_tokens_map.json"}:
        read_json(folder / name, root)


def require_pieces(folder: Path, root: Path | None = None) -> None:
    """The same for the T5 tokenizer of a CogVideoX."""
    names = {path.name for path in folder.iterdir()}
    if not names & {"tokenizer.json", PIECES}:
        raise InputError(f"`{folder}` has neither `tokenizer.json` nor `{PIECES}`")
    for name in names & {"tokenizer_config.json", "special_tokens_map.json"}:
        read_json(folder / name, root)
