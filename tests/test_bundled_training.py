"""The training recipe: its small parts hold what they promise, without any trained weights."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPTokenizer

import dvcli.bundled
from dvcli.bundled.train import coding, denoising, family, judging, matching, reading
from dvcli.bundled.train.loop import Plan, Trainer, average_of, rate, spent
from dvcli.bundled.train.patches import Patches
from dvcli.bundled.train.pool import Pool, conditions, fill, rendered
from dvcli.bundled.world.clips import passing
from dvcli.bundled.world.layout import draw
from dvcli.bundled.world.render import render
from dvcli.bundled.world.words import Scene, Thing, vocabulary

PLAN = Plan(steps=8, batch=2, lr=1e-2, cool=2, warm=2, save_every=2)
TWO = Scene(
    things=(Thing(shape="ball", colour="red"), Thing(shape="cube", colour="blue")),
    place="snow",
    style="animation",
)


def toy(folder: Path, steps: int) -> Trainer:
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    plan = Plan(steps=steps, batch=2, lr=1e-2, cool=2, warm=2, save_every=2)
    trainer = Trainer(folder, plan, {"m": module})

    def loss(step: int) -> torch.Tensor:
        x = torch.randn(4, 3, generator=trainer.generator)
        return (module(x) - x.sum(dim=1, keepdim=True)).square().mean()

    trainer.run(loss)
    return trainer


def test_the_log_says_what_was_asked_of_which_machine_each_time_it_began(tmp_path: Path) -> None:
    toy(tmp_path, 4)
    toy(tmp_path, 6)
    toy(tmp_path, 6)  # nothing left to do
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["plan"]["steps"]) for line in log] == [(0, 4), (4, 6)]
    assert all("torch" in line["machine"] for line in log)


def test_the_time_spent_is_read_from_the_pace_of_every_hundred_steps() -> None:
    rows = [{"step": 100, "seen": 1600, "pace": 16.0}, {"step": 100, "seen": 1600, "mse": 0.1}]
    rows.append({"step": 200, "seen": 3200, "pace": 32.0})
    assert spent("\n".join(json.dumps(row) for row in rows)) == pytest.approx(150)


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    plan_whole = toy(tmp_path / "whole", 6)
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    plan = Plan(steps=6, batch=2, lr=1e-2, cool=2, warm=2, save_every=2)

    class Halt(Exception):
        pass

    first = Trainer(tmp_path / "broken", plan, {"m": module})

    def loss(step: int, trainer: Trainer, net: nn.Module, last: int) -> torch.Tensor:
        if step == last:
            raise Halt
        x = torch.randn(4, 3, generator=trainer.generator)
        out: torch.Tensor = (net(x) - x.sum(dim=1, keepdim=True)).square().mean()
        return out

    with pytest.raises(Halt):
        first.run(lambda step: loss(step, first, module, 5))
    again = nn.Linear(3, 1)
    second = Trainer(tmp_path / "broken", plan, {"m": again})
    assert second.step == 4
    second.run(lambda step: loss(step, second, again, -1))
    assert torch.equal(again.weight, plan_whole.modules["m"].weight)
    assert torch.equal(second.averages["m"]["weight"], plan_whole.averages["m"]["weight"])


def test_a_checkpoint_holds_the_average(tmp_path: Path) -> None:
    trainer = toy(tmp_path, 4)
    assert torch.equal(average_of(tmp_path, "m")["weight"], trainer.averages["m"]["weight"])


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    plan = Plan(steps=100, batch=1, lr=1.0, cool=20, warm=10)
    assert rate(plan, 0) == pytest.approx(0.1)
    assert rate(plan, 50) == 1.0
    assert rate(plan, 90) == pytest.approx(0.5)
    assert rate(plan, 100) == 0.0


def test_every_word_of_the_world_is_one_token() -> None:
    words = family.tokenizer()
    assert all(len(words(word).input_ids) == 3 for word in vocabulary())


def test_words_have_the_numbers_that_the_weights_were_trained_with() -> None:
    words = family.tokenizer()
    vocab = "\n".join(sorted(words.get_vocab(), key=words.get_vocab().__getitem__))
    assert hashlib.sha256(vocab.encode()).hexdigest()[:12] == "ec283e601e57"
    shipped = CLIPTokenizer.from_pretrained(Path(dvcli.bundled.__file__).parent / "tiny/tokenizer")
    assert shipped.get_vocab() == words.get_vocab()


def test_a_foreign_word_is_spelt_without_unknown_tokens() -> None:
    words = family.tokenizer()
    ids = words("a zebra, 4k").input_ids[1:-1]
    assert words.eos_token_id not in ids


def test_captions_are_padded_to_the_models_length() -> None:
    assert family.encode(family.tokenizer(), ["a red ball", ""]).shape == (2, family.TOKENS)


def test_the_longest_caption_fits() -> None:
    words = family.tokenizer()
    from dvcli.bundled.world.words import sentences

    longest = max(len(words(t).input_ids) for s in range(300) for t in sentences(draw(s)))
    assert longest <= family.TOKENS


def test_the_linear_code_decodes_to_the_best_four_components() -> None:
    x = rendered(range(24)).pictures.image.float() / 127.5 - 1
    patches = Patches.fit(x)
    z = patches.encode(x)
    assert torch.allclose(z.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(z.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-2)
    assert torch.allclose(patches.encode(patches.decode(z)), z, atol=1e-3)


def test_an_untrained_autoencoder_starts_with_little_noise() -> None:
    model = coding.prepare(family.vae())
    posterior = model.encode(torch.zeros(1, 3, 64, 64)).latent_dist
    assert float(posterior.std.detach().max()) < 0.3


def test_conditions_span_minus_one_to_one() -> None:
    d = conditions(rendered(range(4)).pictures.depth)
    assert d.shape == (4, 1, 16, 16)
    assert torch.allclose(d.amin(dim=(1, 2, 3)), -torch.ones(4))
    assert torch.allclose(d.amax(dim=(1, 2, 3)), torch.ones(4))


def test_an_untrained_denoiser_says_nothing() -> None:
    model = denoising.prepare(family.unet(5))
    out = model(torch.randn(1, 5, 16, 16), 10, torch.randn(1, 32, 128)).sample
    assert torch.equal(out, torch.zeros(1, 4, 16, 16))


def test_the_noisiest_steps_keep_their_weight() -> None:
    noise = denoising.Noise.of(family.scheduler(), binding=True)
    assert noise.weights[900] > noise.weights[500] > noise.weights[20]
    assert float(noise.weights.mean()) == pytest.approx(1.0)


def test_swapping_exchanges_the_first_two_colours_only() -> None:
    got = denoising.swapped(TWO)
    assert [t.colour for t in got.things] == ["blue", "red"]
    assert [t.shape for t in got.things] == ["ball", "cube"]


@pytest.mark.parametrize("fault", matching.FAULTS)
def test_a_faulty_scene_is_another_scene(fault: str) -> None:
    rng = np.random.default_rng(0)
    for seed in range(40):
        scene = draw(seed)
        assert matching.faulty(scene, fault, rng) != scene


def test_captions_come_with_their_nouns_marked() -> None:
    captions = reading.Captions(family.tokenizer())
    ids, meanings, nouns = captions.batch(24, torch.Generator().manual_seed(0))
    assert ids.shape == (24, family.TOKENS)
    assert meanings.shape == (24, 9)
    assert ((nouns[..., 0] >= 0).sum(dim=1) >= 1).all()


def test_every_other_scene_of_a_moving_pool_is_a_moment_of_a_clip() -> None:
    made = rendered(range(7, 11), "moving")
    assert torch.equal(made.pictures.image[1::2], rendered([8, 10], "binding").pictures.image)
    scenes, layout = passing([7, 9])
    assert scenes == made.scenes[::2]
    assert torch.equal(made.pictures.image[::2], render(layout).image)


def test_a_pool_of_moving_scenes_tells_what_each_shows(tmp_path: Path) -> None:
    list(fill(tmp_path, 7, 4, "moving", 1))
    assert [Pool(tmp_path).scene(row) for row in range(4)] == rendered(
        range(7, 11), "moving"
    ).scenes


def test_a_pool_on_disk_is_what_was_rendered(tmp_path: Path) -> None:
    list(fill(tmp_path, 7, 5, "binding", 1))
    pool = Pool(tmp_path)
    truth = rendered(range(7, 12), "binding")
    rows = torch.tensor([0, 4])
    expected = truth.pictures.image[rows].float() / 127.5 - 1
    assert torch.equal(pool.pictures(rows), expected)
    assert torch.allclose(pool.depth(rows), truth.pictures.depth[rows], atol=2e-3)
    assert [pool.scene(row) for row in range(5)] == truth.scenes


def feed_of(folder: Path, estimates: torch.Tensor | None) -> denoising.Feed:
    list(fill(folder, 0, 6, "binding", 1))
    latents = torch.arange(6.0)[:, None, None, None].expand(6, 4, 16, 16)
    return denoising.Feed.of(Pool(folder), latents, estimates, family.tokenizer())


def test_a_batch_keeps_latents_depth_and_caption_of_a_scene_together(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, None)
    batch = feed.batch(40, torch.Generator().manual_seed(0))
    rows = batch.latents[:, 0, 0, 0].long()
    assert torch.equal(batch.things, feed.things[rows].float())
    told = (batch.tokens != feed.silence).any(dim=1)
    assert torch.equal(batch.tokens[told], feed.tokens[rows][told])
    assert 0 < int((~told).sum()) < 12


def test_estimated_depth_is_fed_once_there_is_any(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, torch.full((6, 1, 16, 16), 0.5))
    batch = feed.batch(60, torch.Generator().manual_seed(0))
    share = (batch.depth == 0.5).flatten(1).all(dim=1).float().mean()
    assert 0.15 < float(share) < 0.5


def test_the_judge_is_asked_only_about_things_that_are_seen() -> None:
    batch = rendered(range(30))
    pictures = batch.pictures.image.float() / 127.5 - 1
    asked = judging.cases(pictures, batch.layout, batch.pictures)
    assert (asked.slot < batch.layout.count[asked.row]).all()
    assert asked.crop.shape[1:] == (3, 32, 32)
    assert len(asked.row) > 30


def test_a_perfect_judge_scores_one() -> None:
    batch = rendered(range(8))
    pictures = batch.pictures.image.float() / 127.5 - 1
    asked = judging.cases(pictures, batch.layout, batch.pictures)

    class Perfect(judging.Verdict):
        def __init__(self) -> None:
            super().__init__()
            one = nn.functional.one_hot
            whole = torch.cat((one(asked.place, 8), one(asked.style, 3)), dim=1).float()
            self.whole = _Says(whole)
            self.colour = _Says(one(asked.colour, 9).float())
            self.shape = _Says(one(asked.shape, 10).float())

    assert set(judging.verdicts(Perfect(), asked).values()) <= {1.0}


class _Says(nn.Sequential):
    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer
