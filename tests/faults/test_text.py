"""Texts that a person or a disk has spoilt: exit 2 or 3 naming file and line, never a traceback.

Prompts, `dvid.toml`, styles, run files and the JSON lines of a run's samples. A run file is state
that dvid wrote itself, so what is wrong with one is told as storage (6), or, where another run
answers the question, as a warning.
"""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import counts
from program import Dvid

from dvcli.cli.failure import say_error
from dvcli.cli.main import main
from dvcli.cli.prompts import gather
from dvcli.errors import DvidError

TOKENS = [
    b"[" * 3000,
    b"{" * 3000,
    b'{"a":' * 2000,
    b'"',
    b"'''",
    b'"""',
    b"\\",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"=",
    b".",
    b"#",
    b"\n",
    b"\r",
    b"\r\n",
    b"\xe2\x80\xa8",
    b"1e999",
    b"-1e999",
    b"nan",
    b"NaN",
    b"Infinity",
    b"9" * 5000,
    b"-0",
    b"true",
    b"null",
    b"{}",
    b"[]",
    b"1979-05-27",
    b"\\ud800",
    b"\\u0000",
    b"\xef\xbb\xbf",
    b"[tune]",
    b"[[tune]]",
    b"[a.b.c.d]",
    b"steps = ",
    b"x" * 30_000,
    b"{{prompt}}",
    b"%s%n",
    b"${HOME}",
]
VALUES: list[object] = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    0.5,
    -0.0,
    1e308,
    "",
    "x",
    "\0",
    "\ud800",
    "é" * 300,
    "../../etc",
    [],
    [[]],
    {},
    {"a": {}},
    "last",
    "\n",
    {"stage": "tune"},
    {"stage": "mine", "version": 1},
    [1, 2, 3],
    "0" * 64,
]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The text after one to four changes of its bytes."""
    spoilt = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(len(spoilt) + 1)
        match rng.randrange(6):
            case 0:
                spoilt[place:place] = rng.choice(TOKENS)
            case 1:
                spoilt[place : place + rng.randrange(1, 20)] = rng.choice(TOKENS)
            case 2:
                del spoilt[place : place + rng.randrange(1, 40)]
            case 3 if place < len(spoilt):
                spoilt[place] ^= 1 << rng.randrange(8)
            case 4:
                spoilt[place:place] = spoilt[place // 2 : place]
            case _:
                del spoilt[place:]
    return bytes(spoilt)


def altered(data: bytes, rng: random.Random) -> bytes:
    """JSON with one of its values, or the name of one, exchanged for another: still JSON."""
    whole = json.loads(data)
    places: list[tuple[dict[str, object] | list[object], str | int]] = []

    def walk(node: object) -> None:
        items = (
            node.items()
            if isinstance(node, dict)
            else enumerate(node)
            if isinstance(node, list)
            else ()
        )
        for key, inner in items:
            places.append((node, key))  # type: ignore[arg-type]
            walk(inner)

    walk(whole)
    for _ in range(rng.randrange(1, 3)):
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.2:
            holder[rng.choice(["", "extra", "stage", "version"])] = holder.pop(key, None)  # type: ignore[arg-type]
        elif isinstance(holder, dict) or key < len(holder):  # type: ignore[operator]
            holder[key] = rng.choice(VALUES)  # type: ignore[index,call-overload]
    return json.dumps(whole).encode()


CONFIG = b"""# mine
steps = 20
size = "64"
[tune]
lr = 1e-5
checkpoint-grad = "auto"
[sample]
style = ["animation"]
guidance = 7.5
[cache.gc]
keep = "50G"
"""
CONFIG = CONFIG.replace(b'[cache.gc]\nkeep = "50G"\n', b"[cache.ls]\njson = false\n")
STYLES = b"""[ink]
prompt = "ink drawing, \\u00e9tude"
negative = "photo"
["two words"]
prompt = '''
several lines'''
"""
PROMPTS = """# what to make
a tigress with her cubs

ein Tiger, gemalt
日本の虎
a "quoted" prompt \\ with signs
a fox --seed 3 --style animation --guidance 7.5
""".encode()
OBJECTS = b"""{"prompt": "a fox", "seed": 3, "guidance": 7.5, "style": "animation"}
"a wolf"
{"prompt": "a bear", "negative": "snow", "depth_gain": 0.5, "from_noise": true}
"""


def check(
    kind: str, code: int, said: str, file: Path, allowed: tuple[int, ...], why: bytes
) -> None:
    """That the command ended as promised; the tally counts it."""
    assert code in allowed, f"exit {code}\n{said}\n{why[:2000]!r}"
    assert "Traceback" not in said, said
    if code:
        lines = said.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1, said
        assert max(map(len, lines)) < 3000, said
    counts.tally(f"text, {kind}", files=1, **{"refused" if code else "accepted": 1})


def share(kind: int) -> int:
    """How many of this kind: a sixth of all."""
    return counts.count("text") // 6 + (kind < counts.count("text") % 6)


def each(kind: int, name: str, original: bytes, *ways: Callable[[bytes, random.Random], bytes]):  # type: ignore[no-untyped-def]
    for number in range(share(kind)):
        rng = random.Random(f"{counts.SEED}/{name}/{number}")
        yield number, ways[number % len(ways)](original, rng)


def test_a_spoilt_dvid_toml_is_exit_2_naming_it(capfd: pytest.CaptureFixture[str]) -> None:
    file = Path("dvid.toml")
    for _, data in each(0, "toml", CONFIG, mutated):
        file.write_bytes(data)
        code = main(["styles"])
        said = capfd.readouterr().err
        check("dvid.toml", code, said, file, (0, 2), data)
        if code:
            assert "dvid.toml" in said, said


def test_a_spoilt_file_of_styles_is_exit_3_naming_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "styles.toml"
    monkeypatch.setenv("DVID_STYLES", str(file))
    for _, data in each(1, "styles", STYLES, mutated):
        file.write_bytes(data)
        code = main(["styles"])
        said = capfd.readouterr().err
        check("styles", code, said, file, (0, 3), data)
        if code:
            assert str(file) in said, said


def altered_line(data: bytes, rng: random.Random) -> bytes:
    """JSON lines, one of them with another value in it."""
    lines = data.splitlines()
    place = rng.choice((0, 2))
    lines[place] = altered(lines[place], rng)
    return b"\n".join(lines)


@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_a_spoilt_file_of_prompts_is_exit_2_or_3_naming_the_line(
    suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"prompts.{suffix}"
    text, ways = (PROMPTS, (mutated,)) if suffix == "txt" else (OBJECTS, (mutated, altered_line))
    for _, data in each(2 + 3 * (suffix == "jsonl"), suffix, text, *ways):
        file.write_bytes(data)
        code, said = 0, ""
        try:
            wishes = gather((), str(file), styles=(), negative="", seeds=(0,))
            assert all(wish.prompt.encode().strip() for wish in wishes)
        except DvidError as error:
            code, said = say_error(error), capfd.readouterr().err
            assert re.search(r"line \d+ of `.*`|has no prompt in it", said), said
        check(f"prompts.{suffix}", code, said, file, (0, 2, 3), data)


@pytest.mark.parametrize("kind", ["run", "samples"])
def test_a_spoilt_run_is_told_and_hides_no_other(
    kind: str, tuned: Path, dvid: Dvid, capfd: pytest.CaptureFixture[str]
) -> None:
    if kind == "samples":
        dvid("sample", "-p", "a tiger", "-q")
    folder = tuned / "state" / "runs"
    file = folder / ("bikes.json" if kind == "run" else "bikes.samples.jsonl")
    original = file.read_bytes()
    (folder / "other.json").write_bytes((folder / "bikes.json").read_bytes())
    commands = [["runs"], ["sample", "bikes", "-p", "a fox", "-n"], ["runs", "--json"]]
    for number, data in each(3 + (kind == "samples"), kind, original, mutated, altered):
        file.write_bytes(data)
        code = main(commands[number % len(commands)])
        out, said = capfd.readouterr()
        check(f"{kind} file", code, said, file, (0, 2, 3, 4, 6), data)
        if number % len(commands) == 0:
            assert code == 0, said
            assert "other" in out


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[tune]\nsteps = 3\nlr = \n", 3),
        (b"# a\n\nsteps = 3\nsteps = 4\n", 4),
        (b"\n\n[tune]\nstpes = 3\n", 4),
        (b"[tune]\nsteps = 'many'\n", 2),
        (b"[tune]\n'steps' = [1, 2]\n", 2),
        (b"\n[sample]\n\nsteps = 1979-05-27\n", 4),
        (b"\nnothing = 1\n", 2),
        (b"\n\n[nothing]\na = 1\n", 3),
        (b"a = '\n\xff'", 2),
        (b"[cache]\nls = 3\n", 2),
    ],
)
def test_the_line_of_dvid_toml_is_named(text: bytes, line: int, dvid: Dvid) -> None:
    Path("dvid.toml").write_bytes(text)
    said = dvid("styles", code=2).err
    assert "dvid.toml" in said
    assert f"line {line}" in said


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"a fox\n\nbad \0 byte\n", 3),
        (b"a fox\r\nbad \0 byte\r\n", 2),
        ("a\u2028fox\nbad \0 byte\n".encode(), 2),
        (b"a fox\n" + b"x" * 30_000, 2),
        (b"a fox\na wolf\n\xff\xfe\n", 3),
    ],
)
def test_the_line_of_a_prompt_is_named(text: bytes, line: int, tuned: Path, dvid: Dvid) -> None:
    Path("prompts.txt").write_bytes(text)
    assert f"line {line} of `prompts.txt`" in dvid("sample", "-f", "prompts.txt", code=3).err


@pytest.mark.parametrize("text", [b"a = " + b"[" * 5000, b"a = " + b"9" * 5000])
def test_what_the_toml_reader_has_no_error_for_is_still_the_users(
    text: bytes, dvid: Dvid, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("dvid.toml").write_bytes(text)
    assert "dvid.toml` cannot be read" in dvid("styles", code=2).err
    Path("dvid.toml").unlink()
    Path("styles.toml").write_bytes(text)
    monkeypatch.setenv("DVID_STYLES", "styles.toml")
    assert "styles.toml`" in dvid("styles", code=3).err


def test_a_run_file_with_a_digest_that_is_none_is_told(tuned: Path, dvid: Dvid) -> None:
    file = tuned / "state" / "runs" / "bikes.json"
    whole = json.loads(file.read_text())
    whole["recipes"]["tune"]["base"]["unet"] = "0" * 63
    file.write_text(json.dumps(whole))
    assert "cannot be read: `tune`: the digest of its" in dvid("runs").err
    assert "bikes.json` cannot be read" in dvid("sample", "bikes", "-p", "a fox", code=6).err
