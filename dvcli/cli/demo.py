"""`dvid demo`: the whole story on the built-in model and clip, ending in a page and a sheet."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli.output import check_folder, in_the_way, place
from dvcli.cli.planning import Part, show_plan
from dvcli.cli.session import Session, verb
from dvcli.recipes import Controls, Depth, Eval, Extract, Invert, Render, Sample, Tune
from dvcli.styles import find_style

if TYPE_CHECKING:
    from dvcli.cli.commands import Names
    from dvcli.models.fingerprint import Checkpoint
    from dvcli.report.reels import Shot

CLIP = Path(__file__).parent.parent / "bundled" / "demo.mp4"
TITLE = "dvid demo"
CAPTION = "a red ball in front of a blue cube on snow, photorealism style"
TUNING_STEPS, LR, STEPS, REFINE, GUIDANCE = 60, 3e-4, 20, 1, 4.0


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One edit of the story."""

    title: str
    prompt: str
    style: str | None = None
    controls: Controls = field(default_factory=Controls)


SAME = "a red ball in front of a blue cube on snow"
STORY: dict[str, tuple[str, tuple[Wish, ...]]] = {
    "Other things, another place": (
        "The prompt changes what is seen; the motion and the depth stay.",
        (
            Wish(title="both colours", prompt="a green ball in front of a yellow cube on snow"),
            Wish(title="another place", prompt="a red ball in front of a blue cube in a forest"),
        ),
    ),
    "The three styles that ship": (
        "The same words in each style.",
        tuple(
            Wish(title=name, prompt=SAME, style=name)
            for name in ("photorealism", "animation", "impressionism")
        ),
    ),
    "Depth, turned down": (
        "Photorealism again, with the depth control's gain at a half, a quarter and none.",
        tuple(
            Wish(title=f"depth gain {gain:g}", prompt=SAME, controls=Controls(gain=gain))
            for gain in (0.5, 0.25, 0.0)
        ),
    ),
}


@verb
def demo(
    session: Session,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the page goes.")
    ] = Path("out/demo"),
    model: o.Model = "tiny",
    clip_model: Annotated[
        str, typer.Option(metavar="ID|PATH|tiny", help="The CLIP that judges.")
    ] = "tiny",
) -> None:
    """Show the whole story on the built-in model.

    Writes a small clip, tunes on it, samples eight edits and measures them; prints the path of
    an HTML page, beside which lie a contact sheet and the clip.

    Example: dvid demo -o demo
    """
    from dvcli.cli.commands import Names

    check_folder(output)
    for name, own in (("clip.mp4", _is_clip), ("demo.html", _is_page)):
        if (output / name).exists() and not own(output / name):
            raise in_the_way(output / name)
    found = session.sources.model(model)
    inverted = _inverted(session, found)
    judge = session.sources.clip_model(clip_model)
    if session.dry_run:
        show_plan(session, [Part(recipes=[inverted])])
        return
    clip = output / "clip.mp4"
    if not clip.exists():
        place(CLIP, clip)
    session.realise(inverted)
    _write(session, output, _tell(session, inverted, judge, Names(clip=str(clip), model=model)))


def _is_clip(path: Path) -> bool:
    return path.read_bytes() == CLIP.read_bytes()


def _is_page(path: Path) -> bool:
    return f"<title>{TITLE}</title>" in path.read_text(encoding="utf-8", errors="replace")


def _inverted(session: Session, found: "Checkpoint") -> Invert:
    from dvcli.cli.sources import base, native_size

    frames = Extract(clip=session.sources.file(CLIP), size=native_size(found))
    depth = (
        Depth(frames=frames, estimator=found.components["depth_estimator"].digest)
        if found.has_depth
        else None
    )
    tuned = Tune(
        frames=frames,
        depth=depth,
        base=base(found),
        prompt=CAPTION,
        steps=TUNING_STEPS,
        lr=LR,
        dtype=session.number_format,
    )
    return Invert(tuned=tuned, steps=STEPS, refine=REFINE, dtype=session.number_format)


def _tell(
    session: Session, inverted: Invert, judge: str, names: "Names"
) -> "list[tuple[str, str, list[Shot]]]":
    """The story as (heading, sentence, clips)."""
    from dvcli.cli.commands import commands
    from dvcli.report.footage import Footage
    from dvcli.report.reels import Shot

    def shot(
        title: str,
        source: Extract | Invert | Sample,
        *,
        role: str = "",
        said: dict[str, str] | None = None,
        figures: dict[str, float],
    ) -> Shot:
        name = "reconstruction" if isinstance(source, Invert) else "frames"
        return Shot(
            title=title,
            role=role,
            footage=Footage(path=session.realise(source).path(name), kept=True),
            said=said or {},
            figures=figures,
            commands=commands(source, names),
        )

    tuned = inverted.tuned
    figures = _figures(session, tuned.frames, CAPTION, judge)
    first = [shot("the clip", tuned.frames, role="source", figures=figures)]
    if tuned.depth is not None:
        grey = session.realise(Render(source=tuned.depth, suffix=".webp")).path("media.webp")
        depth = Shot(
            title="its depth",
            role="depth",
            footage=Footage(path=grey, kept=True),
            said={"near": "is white"},
            commands=commands(tuned.depth, names),
        )
        first.append(depth)
    psnr = {"PSNR": float(session.realise(inverted).info["psnr"])}
    first.append(shot("reconstruction", inverted, role="reconstruction", figures=psnr))
    told = [("The clip", f"“{CAPTION}”", first)]
    edits = {
        wish.title: _sample(session, inverted, wish)
        for _, wishes in STORY.values()
        for wish in wishes
        if tuned.depth is not None or wish.controls == Controls()
    }
    session.expect(list(edits.values()))
    for heading, (sentence, wishes) in STORY.items():
        shots = []
        for title in (wish.title for wish in wishes if wish.title in edits):
            source = edits[title]
            session.realise(source)
            figures = _figures(session, source, source.prompt, judge)
            said = {"prompt": source.prompt}
            shots.append(shot(title, source, said=said, figures=figures))
        told.append((heading, sentence, shots))
    return told


def _sample(session: Session, inverted: Invert, wish: Wish) -> Sample:
    prompt, negative = find_style(wish.style or "photorealism").apply(wish.prompt, "")
    return Sample(
        inverted=inverted,
        prompt=prompt,
        negative=negative,
        guidance=GUIDANCE,
        controls=wish.controls,
        dtype=session.number_format,
    )


def _figures(
    session: Session, source: Extract | Sample, prompt: str, judge: str
) -> dict[str, float]:
    artifact = session.realise(Eval(frames=source, prompt=prompt, clip_model=judge))
    found = json.loads(artifact.path("metrics").read_text())
    return {"consistency": found["frame_consistency"], "alignment": found["textual_alignment"]}


def _write(session: Session, output: Path, told: "list[tuple[str, str, list[Shot]]]") -> None:
    from dvcli.report.page import Row, Section, page
    from dvcli.report.reels import Reel, as_rows, card
    from dvcli.report.sheet import contact_sheet

    sections = [
        Section(
            heading=heading, sentence=sentence, rows=[Row(title="", cards=list(map(card, shots)))]
        )
        for heading, sentence, shots in told
    ]
    text = page(
        TITLE,
        "One clip and its caption in; other clips with the same motion and depth out.",
        sections,
    )
    every = Reel(name=TITLE, shots=[shot for _, _, shots in told for shot in shots])
    target = output / "demo.html"
    with tempfile.TemporaryDirectory() as folder:
        made, sheet = Path(folder) / target.name, Path(folder) / "demo.png"
        made.write_bytes(text.encode())
        contact_sheet(sheet, as_rows([every]))
        place(sheet, output / sheet.name)
        place(made, target)
    session.result(str(target), path=str(target), sheet=str(output / sheet.name))
