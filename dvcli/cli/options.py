"""Options that several verbs share, each declared once with its help and environment variable."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dvcli import recipes
from dvcli.recipes import DType
from dvcli.runtime import Attention, GradCheckpointing, Memory

Reporting = "Reporting"
Working = "Working"
NO_CONFIG = "DVID_NO_CONFIG"  # set, it is as if every command had `--no-config`


# Reporting: every verb takes these.
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON object a line on stdout.", rich_help_panel=Reporting),
]
Null = Annotated[
    bool,
    typer.Option(
        "--null", "-0", help="End results with NUL, for xargs -0.", rich_help_panel=Reporting
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Only errors, with hints, on stderr.", rich_help_panel=Reporting
    ),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        help="More on stderr; twice for everything.",
        rich_help_panel=Reporting,
    ),
]
NoConfig = Annotated[
    bool,
    typer.Option(
        "--no-config", help="Neither dvid.toml nor DVID_* defaults.", rich_help_panel=Reporting
    ),
]

# Working: the verbs that may compute take these too.
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", "-n", help="Print the plan and do nothing.", rich_help_panel=Working),
]
Refresh = Annotated[
    bool, typer.Option("--refresh", help="Build again and store.", rich_help_panel=Working)
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Use a temporary store.", rich_help_panel=Working)
]
Device = Annotated[
    str,
    typer.Option(help="auto, cpu, mps, cuda or cuda:N.", rich_help_panel=Working),
]
DTypeOption = Annotated[
    Literal["auto", DType],
    typer.Option("--dtype", help="Number format.", rich_help_panel=Working),
]
AttentionOption = Annotated[
    Attention,
    typer.Option("--attention", help="Attention kernels.", rich_help_panel=Working),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Never ask the network.", rich_help_panel=Working),
]
CheckpointGrad = Annotated[
    GradCheckpointing,
    typer.Option(
        "--checkpoint-grad",
        help="Recompute activations to save memory.",
        rich_help_panel=Working,
    ),
]
MemoryOption = Annotated[
    Memory,
    typer.Option("--memory", help="low: least memory, slower.", rich_help_panel=Working),
]
Compile = Annotated[
    bool,
    typer.Option("--compile", help="Compile the network: slow start.", rich_help_panel=Working),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Plan for this much memory, e.g. 8G.",
        rich_help_panel=Working,
    ),
]

# The choice of frames.
Frames = Annotated[int, typer.Option(help="Evenly spaced frames, 1 to 512, with both ends.")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH",
        help="Frame size, 8 to 8192; one number is a square.",
        show_default="the model's",
    ),
]
Fit = Annotated[recipes.Fit, typer.Option(help="How the clip gets that shape.")]
StartAt = Annotated[float, typer.Option("--start", metavar="S", help="First second of the range.")]
EndAt = Annotated[
    float | None,
    typer.Option("--end", metavar="S", help="Last second.", show_default="the clip's end"),
]
Stream = Annotated[int | None, typer.Option(help="Video stream.", show_default="the best")]
Background = Annotated[
    str, typer.Option(metavar="#RRGGBB", help="Behind transparency and padding.")
]
Tolerate = Annotated[
    bool, typer.Option("--tolerate-errors", help="Use what decodes of a damaged clip.")
]
MODEL = "sd2-depth"
# The short names of models, by the option that takes them.
WITH_DEPTH, WITHOUT_DEPTH = (MODEL, "tiny"), ("sd2-base", "sd1", "tiny-t2i")
VIDEO, JUDGES = ("cogvideox-2b",), ("clip-vit-l14", "tiny")
NAMES = {
    "model": WITH_DEPTH + WITHOUT_DEPTH,
    "base": WITH_DEPTH + WITHOUT_DEPTH + VIDEO,
    "plain_model": WITHOUT_DEPTH,
    "estimator": WITH_DEPTH,
    "clip_model": JUDGES,
}
Model = Annotated[
    str,
    typer.Option(
        metavar="ID[@REV]|PATH|tiny",
        help=f"Base: {', '.join(WITH_DEPTH)}; without depth {', '.join(WITHOUT_DEPTH)}.",
    ),
]
NewRun = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="The run's name.", show_default="the clip's"),
]
BaseNow = Annotated[
    str | None,
    typer.Option(
        "--base", metavar="ID|PATH", help="Where the run's base model is now, if it moved."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="PATH", help="A file, or a folder.", show_default="out/RUN/"
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a different existing file.")]
Fps = Annotated[float, typer.Option(help="Frames a second of the file, 0.1 to 240.")]
Format = Annotated[
    str | None,
    typer.Option(metavar="EXT", help="mp4, webm, gif, webp, apng or png.", show_default="mp4"),
]
Crf = Annotated[int, typer.Option(help="Quality of mp4 and webm, 0 (lossless) to 51.")]
NoMetadata = Annotated[bool, typer.Option("--no-metadata", help="Embed no provenance.")]
