"""Every command and every piece of Python on every page runs, as a user types it.

`<!-- not run: reason -->` before a block keeps it from running; the reasons are listed as skips.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import small
from checkpoints import write_cogvideox
from pages import Block, blocks, name_of, pages

import dvcli
from dvcli.api.workspace import usual
from dvcli.cli.main import main

CLIP = Path(dvcli.__file__).parent / "bundled" / "demo.mp4"
CLIPS = ("clip.mp4", "bear.mp4", "fox.mp4", "depth.mp4", "clips/bear.mp4", "clips/boat.mp4")
CLIPS += ("other-system.mp4", "ours.mp4", "theirs.mp4")
WORDS = "a tigress with her cubs\na red fox with her kits --style animation\n"
JOBS = """\
{"clip": "clips/bear.mp4", "caption": "a polar bear with her cubs", "prompts": ["a tigress"]}
{"clip": "clips/boat.mp4", "caption": "a boat on a lake", "prompts_file": "edits.txt"}
"""
FILES = {"prompts.txt": WORDS, "edits.txt": WORDS, "jobs.jsonl": JOBS}
# What cannot run here on pages that say nothing of it themselves.
NOT_HERE = {
    "pip install": "a test installs nothing",
    "dvid study score": "raters have to answer first; `test_study_votes.py` has raters",
    "pytest": "the tests do not run the tests",
    "sbatch ": "there is no Slurm; its script has tests of its own",
    "snakemake ": "Snakemake has tests of its own, where it is installed",
    "s3://": "there is no such bucket",
    "python -m benchmarks": "a benchmark takes its time; `test_benchmarks.py` runs it small",
}
if shutil.which("jq") is None:
    NOT_HERE["jq "] = "jq is not installed here"
# What the user of a page has done before.
BEFORE = {
    f"docs/{name}.md": ['dvid tune bear.mp4 "a polar bear with her cubs"']
    for name in ("batch", "report", "cluster", "speed")
}
# Their commands take longer than a quick test may.
SLOW = {
    f"docs/{name}.md"
    for name in ("baselines", "batch", "cluster", "disk-and-cache", "gallery", "report", "study")
}
# Nothing else is run in a shell: a page must not be able to harm the machine that tests it.
HARMLESS = {
    "dvid",
    "printf",
    "xargs",
    "python3",
    "jq",
    "cat",
    "head",
    "cut",
    "sort",
    "wc",
    "ls",
    "grep",
}
HARMLESS |= {"diff", "cmp", "test", "echo", "read", "export", "wait"}
HARMLESS |= {"while", "for", "do", "done", "if", "then", "fi"}
SHELL = re.compile(r"[|<>$`*?;&(){}]|\\$")
EXIT = re.compile(r"#.*\bexit (\d+)")


def sh(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("sh", "python")]


def runnable(block: Block) -> bool:
    return block.unrun is None and not any(words in block.text for words in NOT_HERE)


PAGES = [
    pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if name_of(page) in SLOW else [])
    for page in pages()
    if any(runnable(block) for block in sh(page))
]
UNRUN = [
    pytest.param(block, id=f"{block.page}:{block.line}")
    for page in pages()
    for block in sh(page)
    if not runnable(block)
]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of all pages: the clip is tuned once."""
    return tmp_path_factory.mktemp("pages") / "cache"


@pytest.fixture(scope="session")
def cogvideox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cogvideox(tmp_path_factory.mktemp("cogvideox"))


@pytest.fixture
def typing(
    home: Path, shared: Path, cogvideox: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """A folder with the user's clips; the small models stand in for the large ones."""
    (home / "work" / "clips").mkdir()
    for name in CLIPS:
        shutil.copyfile(CLIP, home / "work" / name)
    for name, text in FILES.items():
        (home / "work" / name).write_text(text)
    config = home / "config" / "dvid" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(small.CONFIG)
    for place, name, value in small.stand_in(str(cogvideox)):
        monkeypatch.setitem(place, name, value)
    monkeypatch.setenv("DVID_CACHE_DIR", str(shared))
    shim = home / "bin" / "dvid"
    shim.parent.mkdir()
    program = shlex.join([sys.executable, str(Path(small.__file__))])
    shim.write_text(f'#!/bin/sh\nSTAND_IN_COGVIDEOX={cogvideox} exec {program} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    usual.cache_clear()
    return monkeypatch


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(
    page: Path, typing: pytest.MonkeyPatch, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if "cache gc" in page.read_text(encoding="utf-8"):
        typing.setenv("DVID_CACHE_DIR", str(home / "cache"))
    for line in BEFORE.get(name_of(page), []):
        run_line(line, f"before {name_of(page)}", home / "work", capfd)
    for block in blocks(page):
        if block.file is not None:
            (home / "work" / block.file).write_text(block.text)
        elif block.language == "python" and runnable(block):
            exec(compile(small.fewer(block.text), f"{block.page}:{block.line}", "exec"), {})
        elif block.language == "sh" and runnable(block):
            run_block(block, home / "work", capfd)


@pytest.mark.parametrize("block", UNRUN)
def test_a_block_that_does_not_run_says_why(block: Block) -> None:
    reason = block.unrun or next(why for words, why in NOT_HERE.items() if words in block.text)
    assert len(reason.split()) > 2
    pytest.skip(reason)


def test_a_shell_is_given_nothing_that_could_do_harm(tmp_path: Path) -> None:
    script = "dvid runs | while read -r x; do rm -rf x; done\npip install x && dvid demo"
    assert commands(script) - HARMLESS == {"rm", "pip"}
    with pytest.raises(AssertionError, match="runs in no test"):
        in_shell("dvid runs; touch there", "page:1", tmp_path, 0)
    assert not (tmp_path / "there").exists()


def test_few_blocks_do_not_run() -> None:
    count = sum(len(sh(page)) for page in pages())
    assert len(UNRUN) < count / 4


def run_block(block: Block, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Run the block, its plain commands in this process, what needs a shell in one."""
    numbered = list(enumerate(block.text.splitlines(), block.line))
    if any(not plain(line) for _, line in numbered):
        if all(line.startswith("dvid ") or not line.strip() for _, line in numbered):
            for number, line in numbered:
                run_line(line, f"{block.page}:{number}", folder, capfd)
        else:
            in_shell(block.text, f"{block.page}:{block.line}", folder, 0)
        return
    for number, line in numbered:
        run_line(line, f"{block.page}:{number}", folder, capfd)


def plain(line: str) -> bool:
    """Whether it is one command of dvid, or nothing, that no shell has to look at."""
    bare = re.sub(r"'[^']*'|\"[^\"$`]*\"", "", line).partition(" #")[0].strip()
    return not bare or bare.startswith("#") or (bare.startswith("dvid ") and not SHELL.search(bare))


def run_line(line: str, place: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wanted = int(found[1]) if (found := EXIT.search(line)) else 0
    if not plain(line):
        in_shell(line, place, folder, wanted)
        return
    words = shlex.split(small.as_named_here(small.fewer(line), folder), comments=True)
    if not words:
        return
    capfd.readouterr()
    code = main(words[1:])
    said = "".join(capfd.readouterr())
    assert code == wanted, f"{place}: `{line.strip()}` exits with {code}, not {wanted}\n{said}"


def commands(text: str) -> set[str]:
    """The first words of all commands of a script, as far as lines, pipes and lists part them."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"|#.*|\\\n", "", text)
    parts = (part.split() for part in re.split(r"[\n|;&(){}]|\bdo\b|\bthen\b", bare))
    return {words[0] for words in parts if words}


def in_shell(text: str, place: str, folder: Path, wanted: int) -> None:
    strange = commands(text) - HARMLESS
    assert not strange, f"{place}: {strange} runs in no test; `<!-- not run: reason -->` says why"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", small.as_named_here(text, folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=200,
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == wanted, f"{place}: exits with {done.returncode}\n{text}\n{said}"
