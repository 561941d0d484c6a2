"""`dvid sample`: new clips from one inversion, every prompt × style × seed."""

from typing import Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli.groups import Delivery, DepthControls
from dvcli.cli.output import check, deliver
from dvcli.cli.prompts import Wish, gather
from dvcli.cli.record import inversion, remember
from dvcli.cli.session import Session, verb
from dvcli.errors import UsageError
from dvcli.recipes import Depth, Invert, Sample


@verb
def sample(
    session: Session,
    to: Delivery,
    depth: DepthControls,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A tuned run.", show_default="the last")
    ] = None,
    run_option: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="The same, as an option.")
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="What the new clip shows; may be repeated."),
    ] = None,
    prompts_file: Annotated[
        str | None,
        typer.Option("--prompts-file", "-f", metavar="FILE|-", help="Prompts, one a line."),
    ] = None,
    style: Annotated[
        list[str] | None, typer.Option("--style", "-s", help="A style by name; may be repeated.")
    ] = None,
    negative: Annotated[str, typer.Option(help="What it must not show.")] = Sample.negative,
    guidance: Annotated[
        float, typer.Option(help="How strictly the prompt is followed.")
    ] = Sample.guidance,
    guidance_from: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the steps before guidance acts.")
    ] = Sample.guidance_from,
    guidance_until: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the steps after which it rests.")
    ] = Sample.guidance_until,
    strength: Annotated[
        float, typer.Option(help="Share of the steps that are run; less stays nearer the clip.")
    ] = Sample.strength,
    eta: Annotated[float, typer.Option(help="Fresh noise a step, 0 to 1.")] = Sample.eta,
    from_noise: Annotated[
        bool, typer.Option("--from-noise", help="Start from noise, not from the clip's latent.")
    ] = False,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Of the noise, where there is any; may be repeated.", show_default="0"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Checked against the inversion's.", show_default="the inversion's"),
    ] = None,
    base: o.BaseNow = None,
) -> None:
    """Make new clips with a clip's motion.

    Every prompt × style × seed from one inversion; prints one path a line.

    Example: dvid sample -p "a tigress with her cubs" --style impressionism
    """
    wishes = gather(
        prompt or [], prompts_file, styles=style or [], negative=negative, seeds=seed or [0]
    )
    if run is not None and run_option is not None:
        raise UsageError(f"two runs are named, `{run}` and `{run_option}`", hint="name one")
    kept = session.run(run or run_option)
    session.sources.expect(kept, model=base)
    inverted = inversion(kept, session.number_format)
    if steps is not None and steps != inverted.steps:
        raise UsageError(
            f"the inversion has {inverted.steps} steps, so sampling cannot have {steps}",
            hint=f"`dvid invert {kept.name} --steps {steps}` first",
        )
    recipes = [
        Sample(
            inverted=inverted,
            prompt=wish.prompt,
            negative=wish.negative,
            guidance=guidance,
            guidance_from=guidance_from,
            guidance_until=guidance_until,
            strength=strength,
            eta=eta,
            start="noise" if from_noise else "inverted",
            seed=wish.seed,
            controls=depth.controls(),
            blend=_other_depth(session, depth, inverted),
            dtype=session.number_format,
        )
        for wish in wishes
    ]
    if len(seed or []) > 1 and not recipes[0].random:
        raise UsageError(
            "several seeds would give the same clip several times: nothing here is random",
            hint="`--eta` above 0 or `--from-noise` makes the seed matter",
        )
    check(to, results=len(recipes), session=session, sources=recipes)
    if session.dry_run:
        for recipe in recipes:
            session.show_plan(recipe)
        return
    session.warn_of_overflow(inverted.tuned.base.tokenizer, recipes)
    if not from_noise and kept.recipes.get("invert") != (used := recipes[0].inverted):
        session.realise_input(used)
        kept = remember(session, used, kept)
    for wish, recipe in zip(wishes, recipes, strict=True):
        path, key = deliver(session, recipe, to, run=kept, words=_named(wish))
        session.runs.add_sample(kept.name, recipe, key=key, path=str(path.resolve()))
        session.result(
            str(path),
            path=str(path),
            run=kept.name,
            key=key,
            prompt=wish.prompt,
            negative=wish.negative,
            style=wish.style,
            seed=wish.seed if recipe.random else None,
        )


def _named(wish: Wish) -> str:
    return wish.words if wish.style is None else f"{wish.words[:24]} {wish.style}"


def _other_depth(session: Session, depth: DepthControls, inverted: Invert) -> Depth | None:
    if depth.depth_from is None:
        return None
    other = session.run(depth.depth_from)
    session.sources.expect(other)
    recipe = other.recipes.get("depth")
    if not isinstance(recipe, Depth):
        raise UsageError(f"the run `{other.name}` has no depth", hint=f"`dvid depth {other.name}`")
    mine = inverted.tuned.frames
    if (recipe.frames.frames, recipe.frames.size) != (mine.frames, mine.size):
        raise UsageError(
            f"the depth of `{other.name}` has other frames or another size",
            hint="extract both clips with the same `--frames` and `--size`",
        )
    return recipe
