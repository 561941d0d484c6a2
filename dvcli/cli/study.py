"""`dvid study make`: a page on which people compare methods, blind."""

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli import score
from dvcli.cli.output import check_folder, in_the_way, place
from dvcli.cli.session import Session, verb
from dvcli.errors import InputError, UsageError
from dvcli.recipes import LARGEST_SEED, Extract, Render, within

if TYPE_CHECKING:
    from dvcli.cli.examples import Found, Match
    from dvcli.store import Artifact

QUALITY = 4  # of VP9: half a grey level on average, a tenth of what a lossless file takes
HEAVY = 150_000_000  # characters of a page that browsers begin to find long
log = logging.getLogger(__name__)
study = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Let people compare methods, blind.",
    epilog="Example: dvid study make a=out/a b=out/b -o study.html",
)


@study.command("make")
@verb
def make(
    session: Session,
    methods: Annotated[
        list[str],
        typer.Argument(metavar="METHOD=FOLDER|RUN...", help="What to call it, and its clips."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PAGE", help="Where the page goes.")
    ] = Path("study.html"),
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV with file,prompt, or JSON lines.",
            show_default="what is embedded",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD", help="Only pairs with this method.", show_default="every pair"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order and the sides.")] = 0,
    overwrite: o.Overwrite = False,
) -> None:
    """Make a page of blind pairs.

    Writes one HTML page for raters and, beside it, the key that says which clip is whose; prints
    the page's path.

    Example: dvid study make ours=out/bear tav=out/bear-tav -o study.html
    """
    from dvcli.cli.examples import (
        captioned,
        match,
        parse_methods,
        prompts_of,
        scan,
    )
    from dvcli.cli.listing import read_listing

    named = parse_methods(methods)
    within("--seed", seed, 0, LARGEST_SEED)
    if against is not None and against not in named:
        raise UsageError(f"there is no method `{against}`", hint="one of " + ", ".join(named))
    sealed = _key_path(output)
    check_folder(output.parent)
    for path, own in ((output, "Which clip is better?"), (sealed, '"study key"')):
        if not overwrite and os.path.lexists(path) and not _is_ours(path, own):
            raise in_the_way(path)
    listing = None if prompts_file is None else read_listing(prompts_file)
    prompts = {} if listing is None or listing.benchmark else prompts_of(listing)
    clips = []
    for name, what in named.items():
        folder = _folder(session, what)
        if folder is None:
            clips += _sampled(session, name, what)
        elif listing is not None and listing.benchmark:
            clips += captioned(name, folder, listing)
        else:
            clips += scan(name, folder, prompts)
    found, unmatched = match(clips)
    _warn_each_once(unmatched)
    if against is not None:
        found = [one for one in found if against in (clip.method for clip in one.clips)]
    if not found:
        whose = "one method" if against is None else f"`{against}`"
        raise InputError(
            f"no clip of {whose} has a counterpart in another method",
            hint="clips are matched by file name or by prompt; `--prompts-file` gives prompts",
        )
    if session.dry_run:
        for one in found:
            _show_match(session, one)
        return
    _write(session, found, list(named), (output, sealed), seed, against, overwrite)


def _key_path(output: Path) -> Path:
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"`{output}` is no HTML page", hint="`-o` takes a name such as study.html")
    return output.with_suffix(".key.json")


def _is_ours(path: Path, mark: str) -> bool:
    return path.is_file() and mark in path.read_text(encoding="utf-8", errors="replace")


def _folder(session: Session, what: str) -> Path | None:
    """The folder that is meant, None where it is a run; a folder yields to a run of its name."""
    folder = Path(what)
    if folder.is_dir() and what not in session.runs.names():
        return folder
    if folder.exists() or len(folder.parts) > 1:
        raise InputError(f"`{what}` is no folder and no run", hint="`dvid runs` lists the runs")
    return None


def _sampled(session: Session, method: str, what: str) -> "list[Found]":
    """The clips that were sampled in a run."""
    from dvcli.cli.examples import sampled

    made = [(Path(one.path), one.recipe) for one in session.runs.samples(session.run(what).name)]
    found = [sampled(method, path, path.stem, recipe) for path, recipe in made if path.is_file()]
    gone = [path for path, _ in made if not path.is_file()]
    _warn_each_once([f"`{path}` is left out: the file is gone" for path in gone])
    if not found:
        raise InputError(
            f"the run `{what}` has no clips", hint=f"`dvid sample {what} -p TEXT` makes some"
        )
    return found


def _warn_each_once(sentences: Sequence[str]) -> None:
    """Warn of the first clip that something is said of, and count the others; `-v` tells all."""
    alike: dict[str, list[str]] = {}
    for sentence in sentences:
        alike.setdefault(sentence.rpartition("` ")[2], []).append(sentence)
    for first, *others in alike.values():
        log.warning("%s", first + (f" (and {len(others)} more, by `-v`)" if others else ""))
        for other in others:
            log.info("%s", other)


def _show_match(session: Session, found: "Match") -> None:
    files = {clip.method: str(clip.path) for clip in found.clips}
    cells = [f"{method}={path}" for method, path in files.items()]
    session.row(
        found.name, found.prompt, *cells, example=found.name, prompt=found.prompt, clips=files
    )


def _write(
    session: Session,
    found: "Sequence[Match]",
    methods: Sequence[str],
    outputs: tuple[Path, Path],
    seed: int,
    against: str | None,
    overwrite: bool,
) -> None:
    from dvcli.report.study import Example, Take, blind, page

    examples, frames = [], []
    for one in found:
        made = [_film(session, clip.path) for clip in one.clips]
        frames.append((one, [extracted for extracted, _ in made]))
        takes = [
            Take(method=clip.method, file=_plain(clip), webm=film.path("media.webm"))
            for clip, (_, film) in zip(one.clips, made, strict=True)
        ]
        examples.append(Example(name=one.name, prompt=one.prompt, takes=takes))
    _warn_of_tells(frames)
    key, clips = blind(examples, methods, seed=seed, against=against)
    text = page(key, clips)
    if len(text) > HEAVY:
        log.warning("the page has %d MB, which some browsers load slowly", len(text) // 1_000_000)
    _place(dict(zip(reversed(outputs), (key.text(), text), strict=True)), overwrite)
    output, sealed = outputs
    session.note(f"`{sealed}` says which clip is whose: raters must not see it")
    session.result(
        str(output),
        path=str(output),
        key=str(sealed),
        study=key.study,
        examples=len(found),
        pairs=len(key.pairs),
        methods=list(methods),
    )


def _plain(clip: "Found") -> str:
    return clip.name + clip.path.suffix.encode(errors="replace").decode()


def _film(session: Session, path: Path) -> "tuple[Artifact, Artifact]":
    """All frames of the file, and a WebM of them, at their own rate and without a word in it."""
    frames = Extract(clip=session.sources.file(path), frames=None, size=None)
    extracted = session.realise(frames)
    film = Render(source=frames, suffix=".webm", fps=_rate(extracted), crf=QUALITY)
    return extracted, session.realise(film)


def _rate(extracted: "Artifact") -> float:
    times: list[float] = extracted.info["times"]
    span = times[-1] - times[0]
    if not span > 0:
        return Render.fps
    return min(max(round((len(times) - 1) / span, 3), 0.1), 240.0)


def _warn_of_tells(frames: "Sequence[tuple[Match, Sequence[Artifact]]]") -> None:
    """Say what raters could tell the methods apart by, other than how good they are."""

    def seconds(clip: "Artifact") -> str:
        return f"{len(clip.info['times']) / _rate(clip):.1f} s"

    def rate(clip: "Artifact") -> str:
        return f"{_rate(clip):.3g} frames a second"

    def size(clip: "Artifact") -> str:
        return "{}×{}".format(*clip.info["size"])

    for what, told in (("size", size), ("rate", rate), ("length", seconds)):
        unlike = [
            (one, seen) for one, clips in frames if len(set(seen := list(map(told, clips)))) > 1
        ]
        if unlike:
            one, seen = unlike[0]
            log.warning(
                "the clips of %d of %d examples differ in %s (`%s`: %s): raters may tell methods"
                " apart by it",
                *(len(unlike), len(frames), what, one.name, ", ".join(seen)),
            )


def _place(texts: Mapping[Path, str], overwrite: bool) -> None:
    """Put the files there, none where one of them would replace a different one unasked."""
    wanted = {path: text.encode() for path, text in texts.items()}
    stale = {p: b for p, b in wanted.items() if not p.exists() or p.read_bytes() != b}
    for path in stale:
        if os.path.lexists(path) and not overwrite:
            raise UsageError(
                in_the_way(path).message,
                hint="`-o` names another; `--overwrite` replaces page and key, and what raters"
                " answered on the old page is lost without the old key",
            )
    with tempfile.TemporaryDirectory() as folder:
        for path, content in stale.items():
            draft = Path(folder) / "draft"
            draft.write_bytes(content)
            place(draft, path)


study.command("score")(score.score)
