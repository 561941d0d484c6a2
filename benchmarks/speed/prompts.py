"""What prompt 2, 3, … costs once the clip is inverted: the built-in model through the command."""

import time

from benchmarks.speed import figures
from benchmarks.speed.figures import Figure
from benchmarks.speed.settings import Settings

PART = "prompts"
SCENE = "a red ball in front of a blue cube on snow"
PROMPTS = (
    "a green ball in front of a yellow cube on snow",
    "a red ball in front of a blue cube in a forest",
    "a yellow ball in front of a green cube on snow",
    "a blue ball in front of a red cube in a forest",
)


def tuned(settings: Settings) -> None:
    """A run `clip` of the demo's clip on the built-in model, tuned briefly and inverted."""
    from dvcli.cli.demo import CLIP

    small = settings.shape == "tiny"
    tiny = ["--model", "tiny", "--frames", "3" if small else "8", "--run", "clip", "-q"]
    steps = "1" if small else "4"
    settings.dvid("tune", str(CLIP), SCENE, "--steps", steps, *tiny)
    settings.dvid("invert", "clip", "--steps", "2" if small else "20", "-q")


def measure(settings: Settings) -> list[Figure]:
    """Seconds of the first prompt and of each further one of one command, as the store has them."""
    from dvcli.store import Store

    tuned(settings)
    words = [word for prompt in PROMPTS for word in ("-p", prompt)]
    first: list[float] = []
    later: list[float] = []
    whole: list[float] = []
    for turn in range(max(1, min(settings.repeat, 3))):
        guidance = str(4 + turn / 10)  # another clip each turn, else it were in the store
        begun = time.perf_counter()
        settings.dvid("sample", "clip", "--guidance", guidance, "-q", *words)
        whole.append(time.perf_counter() - begun)
        store = Store.open(settings.folder / "home" / "cache")
        made = sorted((e for e in store.entries() if e.stage == "sample"), key=lambda e: e.created)[
            -len(PROMPTS) :
        ]
        seconds = [float(str(entry.info["seconds"])) for entry in made]
        first.append(seconds[0])
        later.append(sum(seconds[1:]) / len(seconds[1:]))
    return [
        figures.of(PART, f"one command, {len(PROMPTS)} prompts", whole, "s"),
        figures.of(PART, "prompt 1, its imports and loading with it", first, "s"),
        figures.of(PART, "prompt 2, 3, …", later, "s"),
        figures.ratio(PART, "prompt 2, 3, … / prompt 1", later, first),
    ]
