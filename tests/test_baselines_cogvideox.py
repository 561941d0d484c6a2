"""CogVideoX beside the runs: the stock pipelines' own pixels, in the run's count and size."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from checkpoints import edit_json, write_cogvideox
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from program import Dvid

from dvcli.errors import InputError, MissingError, ResourceError, UsageError
from dvcli.models import cogvideox, load
from dvcli.models.fingerprint import Checkpoint, checkpoint
from dvcli.models.layout import needed
from dvcli.models.resolve import resolve
from dvcli.models.video_shape import shape_of, video_model, whole
from dvcli.recipe_json import from_json, to_json
from dvcli.recipes import CogVideoX, Extract
from dvcli.stages import Work
from dvcli.stages import cogvideox as stage

PROMPT = "a polar bear in the snow"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CogVideoX; copy it before changing it."""
    return write_cogvideox(tmp_path_factory.mktemp("cogvideox"))


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with the other sampler, whose transformer takes latent frames in pairs, as 1.5 does."""
    place = tmp_path_factory.mktemp("cogvideox-1.5")
    return write_cogvideox(place, sampler="CogVideoXDPMScheduler", pairs=True)


def known(folder: Path) -> Checkpoint:
    return checkpoint(str(folder), folder, lambda path: sha256(path.read_bytes()).hexdigest())


def places(folder: Path) -> Mapping[str, Path]:
    return {name: part.folder for name, part in known(folder).components.items()}


def asked(folder: Path, **changes: Any) -> CogVideoX:
    frames = Extract(clip="0" * 64, frames=3, size=(48, 32))
    plain = CogVideoX(
        frames=frames,
        model=video_model(known(folder)),
        prompt=PROMPT,
        size=(48, 32),
        stride=4,
        steps=3,
        seed=5,
    )
    return replace(plain, **changes)


def noise(count: int, size: tuple[int, int] = (48, 32)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size[1], size[0], 3), dtype=np.uint8)


def ours(folder: Path, recipe: CogVideoX, clip: np.ndarray | None = None) -> np.ndarray:
    made = cogvideox.pipeline(recipe.start, places(folder), recipe.dtype, "cpu", "whole")
    return cogvideox.generate(made, recipe, clip, lambda: None)


def stock(
    folder: Path, start: Literal["clip", "noise"], seed: int = 5, **settings: Any
) -> np.ndarray:
    """What diffusers makes when it is asked itself."""
    from diffusers import CogVideoXPipeline, CogVideoXVideoToVideoPipeline

    kind = CogVideoXPipeline if start == "noise" else CogVideoXVideoToVideoPipeline
    pipe = kind.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        prompt=PROMPT,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(seed),
        max_sequence_length=16,
        **settings,
    ).frames[0]
    return np.stack([np.asarray(image) for image in images])


@pytest.mark.parametrize("which", ["folder", "second"])
def test_from_the_text_alone_the_pixels_are_those_of_the_stock_pipeline(
    which: str, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(which)
    expected = stock(base, "noise", num_frames=9, width=48, height=32)
    assert np.array_equal(ours(base, asked(base, start="noise")), expected)


def test_from_the_clip_the_pixels_are_those_of_the_stock_pipeline(folder: Path) -> None:
    clip = noise(9)
    video = [Image.fromarray(frame) for frame in clip]
    expected = stock(folder, "clip", video=video, width=48, height=32, strength=0.8)
    assert np.array_equal(ours(folder, asked(folder), clip), expected)


def test_of_a_model_of_pairs_too(second: Path) -> None:
    clip = noise(8)
    video = [Image.fromarray(frame) for frame in clip]
    expected = stock(second, "clip", video=video, width=48, height=32, strength=0.8)
    frames = Extract(clip="0" * 64, frames=8, size=(48, 32))
    assert np.array_equal(ours(second, asked(second, frames=frames, stride=1), clip), expected)


def test_frames_that_are_too_few_are_held_and_cut_off_again(folder: Path) -> None:
    clip = noise(6)
    held = [Image.fromarray(frame) for frame in [*clip, *([clip[-1]] * 3)]]
    expected = stock(folder, "clip", video=held, width=48, height=32, strength=0.8)
    frames = Extract(clip="0" * 64, frames=6, size=(48, 32))
    got = ours(folder, asked(folder, frames=frames, stride=1), clip)
    assert np.array_equal(got, expected[:6])


def test_guidance_and_the_negative_prompt_reach_the_stock_pipeline(folder: Path) -> None:
    settings: dict[str, Any] = {"guidance_scale": 3.0, "negative_prompt": "a red car"}
    expected = stock(folder, "noise", num_frames=9, width=48, height=32, **settings)
    recipe = asked(folder, start="noise", guidance=3.0, negative="a red car")
    assert np.array_equal(ours(folder, recipe), expected)


def test_the_same_recipe_gives_the_same_pixels_and_another_seed_others(folder: Path) -> None:
    recipe = asked(folder)
    once, again = ours(folder, recipe, noise(9)), ours(folder, recipe, noise(9))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, ours(folder, replace(recipe, seed=6), noise(9)))


def test_one_pipeline_makes_many_clips_none_of_which_changes_the_next(folder: Path) -> None:
    made = cogvideox.pipeline("clip", places(folder), "fp32", "cpu", "whole")
    recipe = asked(folder)
    first = cogvideox.generate(made, recipe, noise(9), lambda: None)
    tiled = replace(recipe, tiling=True, size=(96, 64))
    for other in (tiled, replace(recipe, seed=8), replace(recipe, steps=7)):
        cogvideox.generate(made, other, noise(9), lambda: None)
    assert np.array_equal(cogvideox.generate(made, recipe, noise(9), lambda: None), first)


def test_less_strength_stays_nearer_to_what_the_vae_gives_back(folder: Path) -> None:
    clip = noise(9)
    weak, middle, strong = (
        ours(folder, asked(folder, steps=20, strength=share, guidance=1), clip).astype(float)
        for share in (0.05, 0.5, 1.0)
    )
    assert np.abs(weak - middle).mean() < np.abs(weak - strong).mean()


@pytest.mark.parametrize(("share", "steps", "ran"), [(0.5, 4, 2), (1.0, 4, 4), (0.8, 3, 2)])
def test_the_steps_that_are_said_to_run_are_those_that_run(
    folder: Path, share: float, steps: int, ran: int
) -> None:
    recipe = asked(folder, steps=steps, strength=share)
    counted: list[int] = []
    made = cogvideox.pipeline("clip", places(folder), "fp32", "cpu", "whole")
    cogvideox.generate(made, recipe, noise(9), lambda: counted.append(1))
    assert (len(counted), recipe.ran) == (ran, ran)


def test_tiles_change_pixels_a_little_so_they_are_in_the_recipe(folder: Path) -> None:
    recipe = asked(folder, start="noise", size=(96, 64))
    whole_, tiled = ours(folder, recipe), ours(folder, replace(recipe, tiling=True))
    assert not np.array_equal(whole_, tiled)


def test_a_tile_too_thin_to_be_encoded_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="80×48 leaves a tile too thin"):
        ours(folder, asked(folder, tiling=True, size=(80, 48)), noise(9))


@given(count=st.integers(1, 600), ratio=st.sampled_from([4, 8]))
def test_the_number_of_frames_is_the_least_that_the_vae_gives_back(count: int, ratio: int) -> None:
    odd, even = (whole(count, ratio=ratio, patched=patched) for patched in (False, True))
    assert odd % (2 * ratio) == 1
    assert even % (2 * ratio) == 0
    assert count <= odd < count + 2 * ratio
    assert count <= even < count + 2 * ratio


def test_the_shape_is_told_by_the_configs(folder: Path) -> None:
    shape = shape_of(known(folder))
    assert (shape.size, shape.frames, shape.multiple) == ((48, 32), 9, 16)
    assert [shape.stride(count) for count in (1, 2, 3, 5, 9, 40)] == [8, 8, 4, 2, 1, 1]


def test_a_size_it_cannot_take_is_refused_with_one_near_it(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"50×33 .* multiples of 16") as refused:
        shape_of(known(folder)).check((50, 33))
    assert refused.value.hint == "`--model-size 48x32` is near it"


@pytest.mark.parametrize(
    ("place", "change", "says"),
    [
        ("text_encoder/config.json", {"d_model": 64}, "reads text 32 wide, .* writes 64"),
        ("vae/config.json", {"latent_channels": 16}, "takes 4 channels, .* makes 16"),
        ("transformer/config.json", {"sample_width": None}, "not those of a CogVideoX"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "none of CogVideoX"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, place: str, change: dict[str, Any], says: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    edit_json(copy / place, **change)
    with pytest.raises(InputError, match=says):
        shape_of(known(copy))


def test_weights_as_a_pickle_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="only as a pickle"):
        resolve(str(copy), kind="cogvideox")


def test_a_checkpoint_of_another_kind_is_told_with_the_command_for_it(
    folder: Path, base: Path
) -> None:
    with pytest.raises(InputError, match=r"StableDiffusionDepth2ImgPipeline.*CogVideoXPipeline"):
        resolve(str(base), kind="cogvideox")
    with pytest.raises(InputError, match="is a `CogVideoXPipeline`") as refused:
        resolve(str(folder))
    assert refused.value.hint == "`dvid sample --method cogvideox --base` takes it"


def test_only_what_is_needed_of_a_repository_is_fetched() -> None:
    kept = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors",
        "text_encoder/model.safetensors.index.json",
        "tokenizer/added_tokens.json",
        "tokenizer/spiece.model",
        "tokenizer/tokenizer_config.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    left = ["README.md", "LICENSE", "transformer/model.bin", "vae/notes.md", "text_encoder/x.bin"]
    assert sorted(needed([*kept, *left], "cogvideox")) == sorted(kept)


def test_every_component_is_in_the_identity(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = known(copy).components
    edit_json(copy / "scheduler" / "scheduler_config.json", snr_shift_scale=1.0)
    edit_json(copy / "tokenizer" / "tokenizer_config.json", pad_token="a")
    after = known(copy).components
    changed = {name for name in before if before[name].digest != after[name].digest}
    assert changed == {"scheduler", "tokenizer"}


def test_a_sentencepiece_tokenizer_gives_the_same_tokens(folder: Path, tmp_path: Path) -> None:
    pieces = pytest.importorskip("sentencepiece")
    sentences = tmp_path / "words.txt"
    sentences.write_text("\n".join([PROMPT, "a red car on a road", "a blue ball in the sea"] * 50))
    place = tmp_path / "tokenizer"
    place.mkdir()
    pieces.SentencePieceTrainer.train(
        input=str(sentences),
        model_prefix=str(place / "spiece"),
        vocab_size=40,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    mine = load.t5_tokenizer(place)(PROMPT).input_ids
    theirs = pieces.SentencePieceProcessor(model_file=str(place / "spiece.model")).encode(PROMPT)
    assert mine == [*theirs, 1]


def test_without_its_packages_a_sentencepiece_tokenizer_says_which_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spiece.model").write_bytes(b"")
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    with pytest.raises(MissingError) as refused:
        load.t5_tokenizer(tmp_path)
    assert "pip install sentencepiece protobuf" in str(refused.value.hint)


def test_the_model_is_put_where_it_fits(folder: Path) -> None:
    parts = places(folder)
    sizes = [cogvideox.numbers(parts[n], n) for n in ("transformer", "text_encoder", "vae")]
    every, largest = 5 * sum(sizes), 5 * max(sizes)  # 4 bytes each, and a quarter more
    put = {
        free: cogvideox.placing(parts, "fp32", "cuda", free)
        for free in (every, every - 1, largest, largest - 1)
    }
    assert list(put.values()) == ["whole", "components", "components", "layers"]
    assert cogvideox.placing(parts, "bf16", "cuda", every // 2 + 1) == "whole"
    assert cogvideox.placing(parts, "fp32", "cpu", every) == "whole"
    with pytest.raises(ResourceError, match="GiB free"):
        cogvideox.placing(parts, "fp32", "cpu", every - 1)


def test_one_component_at_a_time_gives_the_same_pixels(folder: Path) -> None:
    made = cogvideox.pipeline("clip", places(folder), "fp32", "cpu", "components")
    recipe = asked(folder)
    assert np.array_equal(
        cogvideox.generate(made, recipe, noise(9), lambda: None), ours(folder, recipe, noise(9))
    )


def test_one_layer_at_a_time_is_left_to_diffusers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import CogVideoXPipeline

    called: list[str] = []
    monkeypatch.setattr(
        CogVideoXPipeline,
        "enable_sequential_cpu_offload",
        lambda self, device: called.append(f"{device} from {self.transformer.device}"),
    )
    cogvideox.pipeline("noise", places(folder), "fp32", "cuda", "layers")
    assert called == ["cuda from cpu"]


def test_the_weights_are_counted_as_they_load(folder: Path) -> None:
    parts = places(folder)
    net = load.video_transformer(parts["transformer"], "fp32", "cpu")
    held = sum(p.numel() for p in net.parameters())
    assert cogvideox.numbers(parts["transformer"], "transformer") == held


def test_a_long_prompt_is_told_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours(folder, asked(folder, start="noise", prompt="a red ball in the sea " * 9))
    assert "sees only the first 16 tokens" in caplog.text


def test_a_recipe_survives_json(folder: Path) -> None:
    recipe = asked(folder, start="noise", tiling=True)
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe


def test_the_stage_wants_no_more_than_its_interface() -> None:
    assert stage.build.__annotations__ == {"recipe": CogVideoX, "work": Work, "return": None}


# By the command line: a run that only has frames is enough.
@pytest.fixture
def run(dvid: Dvid, bikes: Path) -> str:
    return dvid("extract", bikes, "--frames", "3", "--size", "64").lines[0]


def last_frames() -> np.ndarray:
    """The frames of the last artifact of the stage."""
    from dvcli.store import Store
    from dvcli.video import frames as frame_file

    store = Store.open()
    entry = next(e for e in store.entries() if e.stage == "cogvideox")
    artifact = store.get(entry.key)
    assert artifact is not None
    return frame_file.load(artifact.path("frames"))


def sampled(dvid: Dvid, folder: Path, *more: str, code: int = 0) -> Any:
    said = dvid(
        *("sample", "--method", "cogvideox", "--base", folder, "-p", PROMPT),
        *("--steps", "2", "--dtype", "fp32", "--json", *more),
        code=code,
    )
    return [json.loads(line) for line in said.lines] if code == 0 else said


def test_a_clip_has_the_count_and_the_size_of_the_runs_frames(
    dvid: Dvid, folder: Path, run: str
) -> None:
    (made,) = sampled(dvid, folder, "--strength", "0.5")
    assert Path(made["path"]).is_file()
    assert made["method"] == "cogvideox"
    assert last_frames().shape == (3, 64, 64, 3)


@pytest.mark.parametrize(("start", "kept"), [([], True), (["--from-noise"], False)])
def test_a_clip_is_squashed_back_and_the_text_alone_is_cropped(
    dvid: Dvid,
    folder: Path,
    run: str,
    monkeypatch: pytest.MonkeyPatch,
    start: list[str],
    kept: bool,
) -> None:
    edged = np.zeros((9, 32, 48, 3), dtype=np.uint8)
    edged[:, :, :4] = 255
    monkeypatch.setattr(cogvideox, "generate", lambda *arguments: edged)
    sampled(dvid, folder, "--strength" if kept else "--seed", "1", *start)
    assert bool(last_frames()[:, :, 0].mean() > 200) is kept


def test_the_same_command_again_is_a_hit_that_gives_the_same_path(
    dvid: Dvid, folder: Path, run: str
) -> None:
    (first,) = sampled(dvid, folder, "--from-noise")
    plan = sampled(dvid, folder, "--from-noise", "--dry-run")
    assert [(step["stage"], step["hit"]) for step in plan] == [("cogvideox", True)]
    (second,) = sampled(dvid, folder, "--from-noise")
    assert (second["path"], second["key"]) == (first["path"], first["key"])


def test_clips_of_cogvideox_are_counted_like_others(dvid: Dvid, folder: Path, run: str) -> None:
    words = ("--method", "cogvideox", "--base", folder, "--steps", "2", "--dtype", "fp32")
    err = dvid("sample", *words, "--from-noise", "-p", "a red car", "-p", "a fox").err
    assert [f"result {number} of 2" in err for number in (1, 2, 3)] == [True, True, False]


def test_seeds_and_prompts_give_a_clip_each(dvid: Dvid, folder: Path, run: str) -> None:
    made = sampled(dvid, folder, "--from-noise", "-p", "a red car", "--seed", "1", "--seed", "2")
    assert len({clip["path"] for clip in made}) == 4


def test_the_frames_between_come_from_the_clip_as_far_as_it_has_them(
    dvid: Dvid, folder: Path, run: str
) -> None:
    plan = sampled(dvid, folder, "--dry-run")
    assert [step["stage"] for step in plan] == ["extract", "cogvideox"]
    (made,) = sampled(dvid, folder, "--strength", "0.5")
    (line,) = [text for text in dvid("show", made["path"]).lines if "cogvideox" in text]
    assert "--stride 4" in line
    (few,) = sampled(dvid, folder, "--strength", "0.5", "--stride", "1")
    assert few["key"] != made["key"]


def test_a_short_clip_is_not_asked_for_more_frames_than_it_has(
    dvid: Dvid, folder: Path, tmp_path: Path
) -> None:
    from dvcli.video.write import write

    write(tmp_path / "short.mp4", frames=noise(6, (64, 64)), fps=8.0, metadata=None, crf=17)
    dvid("extract", tmp_path / "short.mp4", "--frames", "3", "--size", "48x32")
    (made,) = sampled(dvid, folder, "--strength", "0.5")
    assert "--stride 2" in "".join(dvid("show", made["path"]).lines)


def test_show_gives_the_commands_that_make_it_again(
    dvid: Dvid, folder: Path, run: str, bikes: Path
) -> None:
    import shlex

    (made,) = sampled(dvid, folder, "--from-noise", "--guidance", "3", "--seed", "4")
    lines = dvid("show", made["path"]).lines
    again = [
        shlex.split(line.replace(" CLIP", f" {bikes}").replace(" MODEL", f" {folder}"))[1:]
        for line in lines
    ]
    dvid(*again[0])
    assert dvid(*again[1], "--json").lines != []
    assert json.loads(dvid(*again[1], "--json").lines[0])["key"] == made["key"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--depth-gain", "2"], "`--depth-gain` means nothing to CogVideoX"),
        (["--eta", "1"], "`--eta` means nothing to CogVideoX"),
        (["--from-noise", "--strength", "0.5"], "from noise there is no clip"),
        (["--strength", "0.2"], "is not one step"),
        (["--guidance", "0.5"], "`--guidance` is `0.5`"),
        (["--stride", "0"], "`--stride` is `0`"),
        (["--model-size", "50x32"], "multiples of 16"),
        (["--model-size", "large"], "is no size"),
        (["--seed", "-1"], "`--seed` is `-1`"),
    ],
)
def test_what_makes_no_sense_is_refused(
    dvid: Dvid, folder: Path, run: str, options: list[str], says: str
) -> None:
    assert says in sampled(dvid, folder, *options, code=2).err


@pytest.mark.parametrize("option", [["--stride", "2"], ["--tiling"], ["--model-size", "48x32"]])
def test_an_option_of_another_model_needs_its_method(
    dvid: Dvid, tuned: Path, option: list[str]
) -> None:
    said = dvid("sample", "-p", "x", *option, code=2)
    assert f"`{option[0]}` is of another model" in said.err


def test_more_than_the_memory_is_refused_before_it_is_loaded(
    dvid: Dvid, folder: Path, run: str
) -> None:
    said = sampled(dvid, folder, "--memory-limit", "1k", code=5)
    assert "this CogVideoX needs about" in said.err


def test_a_configured_method_is_none(dvid: Dvid, home: Path) -> None:
    Path("dvid.toml").write_text('method = "cogvideox"\n')
    assert "`method`" in dvid("runs", code=2).err
