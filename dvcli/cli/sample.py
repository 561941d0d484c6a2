"""`dvid sample`: new clips from one inversion, every prompt × style × seed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from dvcli.cli import options as o
from dvcli.cli import shard as shards
from dvcli.cli.clips import hand_over_all
from dvcli.cli.groups import Delivery, DepthControls
from dvcli.cli.method import OtherModel, generate
from dvcli.cli.output import check
from dvcli.cli.planning import Part, show_plan
from dvcli.cli.prompts import Wish, gather, recipes_of
from dvcli.cli.quoting import command_line
from dvcli.cli.record import inversion, remember_if_possible
from dvcli.cli.session import Session, verb
from dvcli.cli.switches import Switches
from dvcli.errors import InputError, MissingError, UsageError
from dvcli.recipes import Depth, Invert, Recipe, Sample


@verb
def sample(
    session: Session,
    to: Delivery,
    depth: DepthControls,
    other: OtherModel,
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A tuned run.", show_default="this folder's last"),
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
        typer.Option(
            "--prompts-file",
            "-f",
            metavar="FILE|-",
            help="A prompt a line, with switches; or .jsonl.",
        ),
    ] = None,
    style: Annotated[
        list[str] | None,
        typer.Option("--style", "-s", help="One of `dvid styles`, yours too; may be repeated."),
    ] = None,
    negative: Annotated[str, typer.Option(help="What it must not show.")] = Sample.negative,
    guidance: Annotated[
        float, typer.Option(help="How strictly to follow the prompt, 0 to 100.")
    ] = Sample.guidance,
    guidance_from: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of steps before guidance, 0 to 1."),
    ] = Sample.guidance_from,
    guidance_until: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of steps after which it ends, 0 to 1."),
    ] = Sample.guidance_until,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Quicker, other clips: fewer steps, guided less."),
    ] = False,
    reuse: Annotated[
        int, typer.Option(help="Deep features every N-th step, 1 to 100.")
    ] = Sample.reuse,
    strength: Annotated[
        float, typer.Option(help="Share of steps, 0 to 1; low is near the clip.")
    ] = Sample.strength,
    eta: Annotated[float, typer.Option(help="Fresh noise a step, 0 to 1.")] = Sample.eta,
    from_noise: Annotated[
        bool, typer.Option("--from-noise", help="Start from noise, not from the clip's latent.")
    ] = False,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Of any noise there is; may be repeated.", show_default="0"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Those of --fast; else the inversion's, checked."),
    ] = None,
    base: o.BaseNow = None,
    shard: shards.Option = None,
) -> None:
    """Make new clips with a clip's motion.

    Every prompt × style × seed from one inversion; prints one path a line.

    Example: dvid sample -p "a tigress with her cubs" --style impressionism
    """
    if not prompt and prompts_file is None and run is not None and " " in run.strip():
        hint = f"`{command_line(['dvid', 'sample', '--prompt', run])}`"
        raise UsageError("no prompt; a word that follows `sample` names a run", hint=hint)
    wishes = gather(
        prompt or [], prompts_file, styles=style or [], negative=negative, seeds=seed or [0]
    )
    part = shards.parse(shard)
    if run is not None and run_option is not None:
        raise UsageError(f"two runs are named, `{run}` and `{run_option}`", hint="name one")
    try:
        kept = session.run(run or run_option)
    except MissingError as error:
        if run is None or not prompt:
            raise
        raise MissingError(
            error.message, hint=f"{error.hint}; quotes keep the words of a prompt together"
        ) from error
    if other.method == "cogvideox":
        refuse_switches(wishes, "CogVideoX")
        if not part.of(wishes):
            session.note(f"the shard {part} has no prompt in it")
            return
        generate(
            session,
            to,
            other,
            kept=kept,
            wishes=part.of(wishes),
            base=base,
            guidance=guidance,
            strength=strength,
            steps=steps,
            from_noise=from_noise,
        )
        return
    other.refuse_alone(session)
    session.sources.expect(kept, model=base)
    inverted = inversion(kept, session.number_format)
    if steps is not None and steps != inverted.steps and not fast:
        raise UsageError(
            f"what is inverted in {inverted.steps} steps is sampled in as many, not in {steps}",
            hint=f"`dvid invert {kept.name} --steps {steps}` first, or with `--fast`",
        )
    every = Switches(
        guidance=guidance,
        guidance_from=guidance_from,
        guidance_until=guidance_until,
        fast=fast,
        reuse=reuse,
        strength=strength,
        eta=eta,
        from_noise=from_noise,
        depth_gain=depth.depth_gain,
        depth_bias=depth.depth_bias,
        depth_gamma=depth.depth_gamma,
        depth_near=depth.depth_near,
        depth_far=depth.depth_far,
        depth_smooth=depth.depth_smooth,
        depth_active=depth.depth_active,
        depth_blend=depth.depth_blend,
        depth_from=depth.depth_from,
    )
    recipes = recipes_of(
        wishes,
        every.only(session.chosen),
        inverted,
        session.number_format,
        lambda name: other_depth(session, name, inverted),
        steps=steps,
    )
    recipes = from_one_inversion(recipes, kept.recipes.get("invert"))
    check(to, results=len(recipes), session=session, sources=recipes)
    wishes, recipes = part.of(wishes), part.of(recipes)
    if session.dry_run:
        wished: dict[Recipe, Wish] = dict(zip(reversed(recipes), reversed(wishes), strict=True))
        show_plan(session, [Part(recipes=recipes, run=kept.name, wishes=wished)])
        return
    if not recipes:
        session.note(f"the shard {part} has no prompt in it")
        return
    session.expect(recipes)
    session.warn_of_overflow(inverted.tuned.base.tokenizer, recipes)
    used = own_inversion(recipes, inverted)
    if used is not None and kept.recipes.get("invert") != used:
        key = session.realise_input(used).key
        kept = remember_if_possible(session, used, kept, key=key)
    tell_of_inversions(session, recipes, [inverted])
    hand_over_all(session, recipes, wishes, to, run=kept)


def from_one_inversion(recipes: Sequence[Sample], own: Recipe | None) -> list[Sample]:
    """The recipes, all from the inversion that keeps its trajectory where one of them needs it.

    Those from `own`, the run's inversion, stay with it: it is there already.
    """
    kept = {recipe.inverted for recipe in recipes if recipe.inverted.trajectory}

    def along(recipe: Sample) -> Sample:
        whole = replace(recipe.inverted, trajectory=True)
        start = recipe.start == "inverted" and recipe.inverted != own and whole in kept
        return replace(recipe, inverted=whole) if start else recipe

    return [along(recipe) for recipe in recipes]


def own_inversion(recipes: Sequence[Sample], own: Invert) -> Invert | None:
    """The run's inversion, with its trajectory if a recipe needs that; None if none starts there.

    Those that `--fast` takes in its place are nothing of the run's.
    """
    used = [recipe.inverted for recipe in recipes if recipe.start == "inverted"]
    mine = [inverted for inverted in used if same_way(inverted, own)]
    return max(mine, key=lambda inverted: inverted.trajectory, default=None)


def same_way(one: Invert, other: Invert) -> bool:
    """Whether both are one inversion but for what they keep of their way."""
    return replace(one, trajectory=other.trajectory) == other


def tell_of_inversions(session: Session, recipes: Sequence[Sample], own: Sequence[Invert]) -> None:
    """Say that `--fast` has the clip inverted once more, where that is still to be done."""
    from dvcli.stages import find

    used = dict.fromkeys(recipe.inverted for recipe in recipes if recipe.start == "inverted")
    for inverted in used:
        theirs = any(same_way(inverted, one) for one in own)
        if not theirs and find(inverted, session.store) is None:
            session.note(
                f"`--fast` samples in {inverted.steps} steps: it inverts the clip in as many,"
                " once, and leaves the run's own inversion as it is"
            )


def refuse_switches(wishes: Sequence[Wish], model: str) -> None:
    """Refuse lines with switches that another model knows nothing of."""
    for wish in wishes:
        for name in wish.switches.given.keys() - {"name"}:
            raise InputError(
                f"{wish.place}: `--{name.replace('_', '-')}` on a line means nothing to {model}",
                hint="`--style`, `--negative` and `--seed` do; others go on the command line",
            )


def other_depth(session: Session, name: str, inverted: Invert) -> Depth:
    """The depth of another run, to blend with that of the inversion's own clip."""
    other = session.run(name)
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
