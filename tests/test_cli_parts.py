"""The small parts of the command line: styles, sizes, memory, prompts, names, devices, progress."""

import io
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcli import devices
from dvcli.cli.failure import system_error
from dvcli.cli.groups import parse_size
from dvcli.cli.output import slug
from dvcli.cli.progress import Lines, duration, reporter
from dvcli.cli.prompts import gather
from dvcli.cli.provenance import is_public, provenance
from dvcli.cli.quoting import command_line, hidden, pretty_json, printable
from dvcli.cli.session import memory
from dvcli.errors import DvidError, InputError, Interrupted, ResourceError, StorageError, UsageError
from dvcli.recipe_json import from_json, to_json
from dvcli.recipes import Extract, Render
from dvcli.runtime import Runtime, Shelf, Stop
from dvcli.styles import find_style, load_styles, styles_path


@pytest.mark.parametrize(
    ("text", "size"), [("512", (512, 512)), ("768x432", (768, 432)), (" 64X96 ", (64, 96))]
)
def test_a_size_is_a_square_or_width_by_height(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "1x2x3", "-64", "64.5", "9" * 9])
def test_what_is_no_size_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8G", 8 * 2**30), ("512M", 512 * 2**20), ("1.5GiB", 3 * 2**29), ("2048", 2048)],
)
def test_memory_is_read_with_its_unit(text: str, size: int) -> None:
    assert memory(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1G", "0", "nan", "inf", "9999999T"])
def test_what_is_no_memory_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        memory(text)


@given(st.text(max_size=300) | st.text(alphabet="ab -", max_size=300))
def test_a_slug_is_always_a_short_plain_file_name(words: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,78}[a-z0-9])?", slug(words))


def test_every_prompt_meets_every_style_and_seed_once_and_in_order() -> None:
    wishes = gather(["a", "b", "a"], None, styles=["animation"], negative="", seeds=[1, 2])
    assert [(w.words, w.style, w.seed) for w in wishes] == [
        ("a", "animation", 1),
        ("a", "animation", 2),
        ("b", "animation", 1),
        ("b", "animation", 2),
    ]


def test_a_style_appends_to_both_prompts() -> None:
    own_styles('[mine]\nprompt = "in chalk"\nnegative = "ink"\n')
    (wish,) = gather(["a bear"], None, styles=["mine"], negative="blue", seeds=[0])
    assert (wish.prompt, wish.negative) == ("a bear, in chalk", "blue, ink")


def test_three_styles_ship() -> None:
    assert set(load_styles()) == {"photorealism", "animation", "impressionism"}


def own_styles(text: str) -> None:
    styles_path().parent.mkdir(parents=True, exist_ok=True)
    styles_path().write_text(text)


def test_own_styles_add_to_those_that_ship_and_may_replace_them() -> None:
    own_styles('[mine]\nprompt = "in chalk"\n[animation]\nprompt = "claymation"\n')
    assert find_style("mine").apply("a bear", "") == ("a bear, in chalk", "")
    assert find_style("animation").prompt == "claymation"
    assert find_style("photorealism").origin is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("mine = 3", "`mine`"),
        ("[mine]\nprompts = 'x'", "`mine.prompts`"),
        ("[mine]\nprompt = 3", "`mine.prompt`"),
        ("[mine]\nprompt = ' '", "`mine`"),
        ("[mine\n", "styles.toml"),
    ],
)
def test_a_broken_styles_file_names_what_is_wrong(text: str, named: str) -> None:
    own_styles(text)
    with pytest.raises(InputError, match=re.escape(named)):
        load_styles()


def test_an_unknown_style_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean `impressionism`"):
        find_style("impresionism")


def test_a_prompts_file_line_that_is_no_prompt_is_named() -> None:
    Path("prompts.txt").write_text("a bear\n" + "x" * 20_001 + "\n")
    with pytest.raises(InputError, match="line 2"):
        gather([], "prompts.txt", styles=[], negative="", seeds=[0])


def test_provenance_names_a_hub_model_and_no_path_of_this_machine(tmp_path: Path) -> None:
    render = Render(source=Extract(clip="0" * 64))
    assert '"model":"org/name@main"' in provenance(render, "org/name@main", own_depth=True)
    gone = tmp_path / "gone"
    assert str(gone) not in provenance(render, str(gone), own_depth=True)


@pytest.mark.parametrize("name", ["tiny", "sd2-depth", "org/name", "org/na.me@1f", "o/n@refs/pr/1"])
def test_a_name_that_is_the_same_for_everybody_is_public(name: str) -> None:
    assert is_public(name)


@pytest.mark.parametrize(
    "name",
    ["/home/me/m", "~/m", "./m", "../me/m", ".m/x", "~me/m", "a/b/c", "folder", "C:\\me\\m", ""],
)
def test_a_name_that_could_be_a_path_is_not_public_whether_or_not_it_exists(name: str) -> None:
    assert not is_public(name)


@given(st.text())
def test_what_is_shown_is_one_line_in_which_nothing_acts(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert not any(map(hidden, shown))


def test_words_without_anything_hidden_are_shown_as_they_are() -> None:
    assert printable("日本 🎞 👩\u200d🚀 naïve") == "日本 🎞 👩\u200d🚀 naïve"
    assert printable("a\x1b[2Jb\n\u202e") == "a\\x1b[2Jb\\n\\u202e"


@pytest.mark.parametrize(
    "word",
    ["", "a b", "it's", '"', "$HOME", "`ls`", "-x", "a\nb", "\x1b[31m'\\1", "日\u202e本", "\udcff"],
)
def test_a_shell_reads_a_command_line_back_to_the_word(word: str) -> None:
    line = command_line(["printf", "%s", word])
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout == os.fsencode(word)
    assert len(line.splitlines()) == 1


def test_indented_json_is_the_value_and_nothing_in_it_acts() -> None:
    value = {"a": ["\x9b31m", "\u202e", "日本", "\x1b\n"], "tag": "\U000e0041"}
    text = pretty_json(value)
    assert json.loads(text) == value
    assert not any(map(hidden, text.replace("\n", "")))


def test_running_out_of_the_processors_memory_is_told_from_a_bug() -> None:
    text = "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you"
    assert isinstance(system_error(RuntimeError(text)), ResourceError)
    assert isinstance(system_error(MemoryError()), ResourceError)
    assert system_error(RuntimeError("the unexpected")) is None


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e999", "NaN"])
@pytest.mark.parametrize("field", ["frames", "start"])
def test_a_number_beyond_all_bounds_is_no_recipe(number: str, field: str) -> None:
    data = to_json(Extract(clip="0" * 64)) | {field: json.loads(number)}
    with pytest.raises(StorageError, match="cannot be read"):
        from_json(data)


def test_a_whole_number_written_with_a_point_is_a_whole_number() -> None:
    recipe = from_json(to_json(Extract(clip="0" * 64)) | {"frames": 4.0})
    assert isinstance(recipe, Extract)
    assert repr(recipe.frames) == "4"


def test_a_recipe_nested_without_end_is_none() -> None:
    data: object = 1
    for _ in range(5000):
        data = [data]
    with pytest.raises(StorageError, match="cannot be read"):
        from_json(data)


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda", "cuda:3"])
def test_a_named_device_is_taken_as_it_is(device: str) -> None:
    assert devices.resolve_device(device) == device


@pytest.mark.parametrize(
    ("capability", "device", "dtype"),
    [(None, "cpu", "fp32"), ((7, 5), "cuda", "fp16"), ((9, 0), "cuda", "bf16")],
)
def test_auto_takes_the_best_device_and_the_format_it_can(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, device: str, dtype: str
) -> None:
    monkeypatch.setattr(devices, "_cuda_capability", lambda: capability)
    monkeypatch.setattr(devices.sys, "platform", "linux")
    assert devices.resolve_device("auto") == device
    assert devices.resolve_dtype("auto", device) == dtype


def test_a_cpu_build_of_torch_means_no_cuda_whatever_the_machine_has() -> None:
    import torch

    assert torch.version.cuda is not None or devices._cuda_capability() is None


def test_an_unknown_number_format_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        devices.resolve_dtype("int8", "cpu")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.6, "1 min 0 s"),
        (130, "2 min 10 s"),
        (11100, "3 h 5 min"),
    ],
)
def test_a_duration_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plain_progress_is_a_line_at_the_start_and_the_end_of_a_short_task() -> None:
    stream = io.StringIO()
    with Lines(stream).task("tune", 100, done=40) as task:
        for _ in range(60):
            task.advance(loss=0.5)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["tune: going on from step 40", "tune 40/100"]
    assert lines[-1].startswith("tune 100/100")
    assert "loss 0.5" in lines[-1]
    assert len(lines) == 3


def test_a_stage_is_told_once_however_often_it_is_asked_for() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    for _ in range(3):
        lines.made("tune", "k", 130.0, cached=True)
    assert stream.getvalue() == "tune: cached, 2 min 10 s saved\n"


def test_quiet_progress_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent = reporter(quiet=True)
    silent.made("tune", "k", 1.0, cached=False)
    with silent.task("tune", 3, done=1) as task:
        task.advance(loss=1.0)
    assert capsys.readouterr() == ("", "")


def test_a_shelf_keeps_what_one_stage_loads_and_drops_it_for_the_next() -> None:
    shelf, made = Shelf(), []

    def load() -> object:
        made.append(object())
        return made[-1]

    assert shelf.get("sample", ("unet",), load) is shelf.get("sample", ("unet",), load)
    shelf.get("eval", ("clip",), load)
    shelf.get("sample", ("unet",), load)
    assert len(made) == 3
    shelf.drop(("unet",))
    shelf.get("sample", ("unet",), load)
    assert len(made) == 4


def test_a_stop_raises_with_the_signals_exit_code_and_what_was_kept() -> None:
    stop = Stop()
    stop.check(kept="nothing")
    stop.request(15)
    with pytest.raises(Interrupted, match="step 3 is kept") as caught:
        stop.check(kept="step 3 is kept")
    assert caught.value.exit_code == 143


def test_a_runtime_knows_no_files_of_its_own() -> None:
    with pytest.raises(DvidError):
        Runtime().locate("0" * 64)
