"""What tells one clip from another, in words: the prompt, the style, the guidance, every knob.

A recipe has a style's words within its prompt; here they are taken out again, so that clips can be
put into rows and columns by prompt and by style.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TypeAlias

from dvcli.recipes import CogVideoX, Controls, Extract, Invert, Sample, Tune, method_of
from dvcli.styles import Style, load_styles

ALWAYS = ("prompt", "style", "guidance")  # said of every clip, whatever the default is
OURS = "dvid"  # the method that need not be named
NO_STYLE = "no style"
Sampled: TypeAlias = Sample | CogVideoX


def facts(recipe: Sampled) -> dict[str, str]:
    """Every fact of the clip by its name: prompt, style, guidance, then each knob of each stage."""
    words, negative, style = without_style(recipe.prompt, recipe.negative, load_styles())
    found = {"prompt": words, "style": NO_STYLE if style is None else style}
    found |= {"guidance": spoken(recipe.guidance), "method": str(method_of(recipe))}
    found["negative"] = negative
    common = ("prompt", "negative", "guidance", "dtype")
    if isinstance(recipe, CogVideoX):
        return found | _fields(recipe, CogVideoX, skip=("frames", "model", *common))
    skip = ("inverted", "controls", "blend", *common, *(() if recipe.random else ("seed",)))
    found |= _fields(recipe, Sample, skip=skip)
    found |= _fields(recipe.controls, Controls, before="depth ")
    found |= _fields(recipe.inverted, Invert, skip=("tuned", "trajectory"), before="inversion ")
    tuned = recipe.inverted.tuned
    skip = ("frames", "depth", "base", "prompt")
    return found | {"caption": tuned.prompt} | _fields(tuned, Tune, skip=skip, before="tuning ")


def changed(recipe: Sampled) -> dict[str, str]:
    """The facts that are always said, and of the others those that are off their default."""
    usual = facts(_plain(recipe)) | {"method": OURS}
    return {
        name: value
        for name, value in facts(recipe).items()
        if value and (name in ALWAYS or (name != "caption" and usual.get(name) != value))
    }


def varying(clips: Sequence[Mapping[str, str]]) -> list[str]:
    """The names of the facts in which the clips differ, the ones always said first."""
    names = list(dict.fromkeys([*ALWAYS, *(name for clip in clips for name in clip)]))
    return [name for name in names if len({clip.get(name) for clip in clips}) > 1]


def values(clips: Sequence[Mapping[str, str]], name: str) -> list[str]:
    """The values of one fact, each once: numbers ascending, else in the order of the clips."""
    found = list(dict.fromkeys(clip[name] for clip in clips if name in clip))
    try:
        return sorted(found, key=float)
    except ValueError:
        return found


def without_style(
    prompt: str, negative: str, styles: Mapping[str, Style]
) -> tuple[str, str, str | None]:
    """The prompt and the negative prompt without a style's words, and the style's name."""
    for style in sorted(styles.values(), key=lambda style: (-len(style.prompt), style.name)):
        words, without = _before(prompt, style.prompt), _before(negative, style.negative)
        if words and without is not None:
            return words, without, style.name
    return prompt, negative, None


def spoken(value: object) -> str:
    """A value as a person writes it: `4` and not `4.0`, `yes` and not `True`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return "" if value is None else str(value)


def measured(name: str, value: float) -> str:
    """The figure of that name with its unit, where it has one."""
    return figure(value) + (" dB" if name == "PSNR" else "")


def figure(value: float) -> str:
    """A figure with as many digits as say something: 93.4, 0.87."""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _before(words: str, style: str) -> str | None:
    """What stands before a style's words; None where they do not end it."""
    style = style.strip()
    if words.strip() == style:
        return ""
    return (
        words.removesuffix(f", {style}")
        if style and words.endswith(f", {style}")
        else (None if style else words)
    )


def _fields(
    recipe: object, kind: type, *, skip: Sequence[str] = (), before: str = ""
) -> dict[str, str]:
    return {
        before + field.name.replace("_", " "): spoken(getattr(recipe, field.name))
        for field in fields(kind)
        if field.name not in skip
    }


def _plain(recipe: Sampled) -> Sampled:
    """The same clip under the same words with every knob at its default."""
    if isinstance(recipe, CogVideoX):
        plain = CogVideoX(frames=recipe.frames, model=recipe.model, prompt=recipe.prompt)
        return replace(plain, negative=recipe.negative, size=recipe.size, dtype=recipe.dtype)
    old = recipe.inverted.tuned
    tuned = Tune(
        frames=Extract(clip=old.frames.clip),
        depth=old.depth,
        base=old.base,
        prompt=old.prompt,
        dtype=old.dtype,
    )
    inverted = Invert(tuned=tuned, dtype=recipe.inverted.dtype)
    return Sample(inverted=inverted, prompt=recipe.prompt, dtype=recipe.dtype)
