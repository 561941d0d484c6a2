"""Styles: named words appended to a prompt, those that ship and the user's own in one TOML file."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dvcli.errors import InputError, UsageError, meant

FIELDS = ("prompt", "negative")
WRITTEN = 'a style is [NAME] and under it prompt = "…", and if need be negative = "…"'


@dataclass(frozen=True, kw_only=True)
class Style:
    """What a style adds: `prompt` to the prompt, `negative` to the negative prompt."""

    name: str
    prompt: str
    negative: str = ""
    origin: Path | None = None

    def apply(self, prompt: str, negative: str) -> tuple[str, str]:
        """The prompt and the negative prompt in this style."""
        return _join(prompt, self.prompt), _join(negative, self.negative)


def styles_path() -> Path:
    """Where the user's own styles are read from, whether or not the file exists.

    Without a home folder for them that is the null device, which has none.
    """
    if configured := os.environ.get("DVID_STYLES"):
        return Path(configured)
    import platformdirs

    try:
        return platformdirs.user_config_path("dvid") / "styles.toml"
    except RuntimeError:  # there is no home folder
        return Path(os.devnull)


def load_styles() -> dict[str, Style]:
    """Every style by name; the user's file adds to those that ship and may replace them."""
    own = styles_path()
    named = "DVID_STYLES" in os.environ and str(own) != os.devnull
    return shipped_styles() | (_read(own, origin=own) if named or own.is_file() else {})


def shipped_styles() -> dict[str, Style]:
    """The styles that ship, by name."""
    return _read(Path(__file__).with_name("styles.toml"), origin=None)


def find_style(name: str) -> Style:
    """The style of that name; a usage error with the nearest names when there is none."""
    styles = load_styles()
    if name in styles:
        return styles[name]
    raise UsageError(
        f"no style named `{name}`" + meant(name, styles),
        hint=f"`dvid styles` lists them; your own go into `{styles_path()}`",
    )


def _read(path: Path, *, origin: Path | None) -> dict[str, Style]:
    try:
        raw = path.read_bytes()
        table = tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(
            f"the styles file `{path}` is not UTF-8 text at line {line}",
            hint="save it as UTF-8",
        ) from error
    except RecursionError:
        raise InputError(f"the styles file `{path}` is nested too deep", hint=WRITTEN) from None
    except OSError as error:
        raise InputError(
            f"the styles file `{path}` cannot be read: {error.strerror}",
            hint="`DVID_STYLES` names another file",
        ) from error
    except ValueError as error:  # such is also a number of thousands of digits
        said = str(error)[:1].lower() + str(error)[1:]
        raise InputError(f"the styles file `{path}` is no TOML: {said}", hint=WRITTEN) from error
    return {name: _style(name, words, path, origin) for name, words in table.items()}


def _style(name: str, words: object, path: Path, origin: Path | None) -> Style:
    shown = name[:60]  # a key of a broken file may be all of its text
    if not isinstance(words, Mapping):
        raise InputError(
            f"`{shown}` in `{path}` is no table", hint=f'write [{shown}] and prompt = "…" under it'
        )
    for key, value in words.items():
        if key not in FIELDS:
            raise InputError(f"`{shown}.{key[:60]}` in `{path}` is unknown", hint=WRITTEN)
        if not isinstance(value, str):
            raise InputError(
                f"`{shown}.{key[:60]}` in `{path}` is not text",
                hint=f'quotes make it text: {key[:60]} = "…"',
            )
    if not str(words.get("prompt", "")).strip():
        raise InputError(
            f"`{shown}` in `{path}` has no prompt words", hint=f'prompt = "…" under [{shown}]'
        )
    return Style(
        name=name, prompt=words["prompt"], negative=words.get("negative", ""), origin=origin
    )


def _join(words: str, more: str) -> str:
    return ", ".join(part for part in (words.strip(), more.strip()) if part)
