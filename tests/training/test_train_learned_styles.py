"""If this fails, a network of learned styles is not trained as its options say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_checks import final_state, short_schedule
from tiny_style_model import make

from configs.schema import StyleRun, load_style_config
from ganmod.features.vgg import VGGFeatures
from ganmod.io.images import ImageError, read_image, resize_short_side, write_image
from style_transfer import ModelSpec, StyleTransferModel, build, load
from training.style.build import build_data, build_loss_network, build_model, resolve
from training.style.losses import WholeStyles
from training.style.losses import style_transfer_losses as losses
from training.train_style import train

SMALL = {
    "model.width": 16,
    "model.num_blocks": 1,
    "model.style_image_size": 64,
    "data.crop": 32,
    "data.short_side": 64,
}


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    """{name: file} of four pictures."""
    rng = np.random.default_rng(0)
    files = {}
    for name in ("photo", "red", "green", "blue"):
        files[name] = str(tmp_path / f"{name}.png")
        write_image(Path(files[name]), rng.integers(0, 256, (70, 80, 3), dtype=np.uint8))
    return files


def untrained(config: StyleRun) -> StyleTransferModel:
    """The model with which the run begins."""
    torch.manual_seed(config.runtime.seed)
    return build_model(resolve(config))


def run_of(preset: str, pictures: dict[str, str], *styles: str, steps: int = 2, **changes: Any) -> StyleRun:
    paths = {"data.content": [pictures["photo"]], "data.style": [pictures[name] for name in styles]}
    more = {key.replace("__", "."): value for key, value in changes.items()}
    optimizer = {"schedule.decay_kimg": 0, "schedule.warmup_kimg": 0}
    return load_style_config(preset, {**SMALL, **short_schedule(steps, 2), **optimizer, **paths, **more})


def test_each_style_image_is_a_style_by_its_name(pictures: dict[str, str]):
    config = resolve(run_of("style-cin", pictures, "red", "green"))
    assert config.model.learned_styles == ("red", "green")
    data = build_data(config.data, 0, config.model)
    whole = {name: resize_short_side(read_image(pictures[name]), 64)[:, 4:68] for name in ("red", "green")}
    seen = set()
    for position in range(4):
        content, style, number = data[position]
        assert content.shape == (3, 32, 32)
        name = config.model.learned_styles[int(number)]
        assert torch.equal(style, torch.from_numpy(whole[name].copy()).permute(2, 0, 1))
        seen.add(name)
    assert seen == {"red", "green"}


def test_a_new_style_trains_its_numbers_alone(pictures: dict[str, str], tmp_path: Path):
    first = train(run_of("style-cin", pictures, "red", "green"), tmp_path / "two")
    config = run_of("style-cin", pictures, "blue", transfer=str(first), model={})
    second = train(config, tmp_path / "three")
    before, after = load(first), load(second)
    assert after.spec.learned_styles == (*before.spec.learned_styles, "blue")
    known = before.state_dict()
    assert all(torch.equal(x, known[name]) for name, x in after.state_dict().items() if name in known)
    fresh = untrained(config).state_dict()
    changed = {
        name
        for name, x in after.state_dict().items()
        if name not in known and not torch.equal(x, fresh[name])
    }
    assert len(changed) == 2 * 5  # scale and shift at each of five layers
    photo = torch.rand(3, 40, 40)
    torch.testing.assert_close(after.stylize(photo, "red"), before.stylize(photo, "red"))


def test_known_and_new_styles_together_are_refused(pictures: dict[str, str], tmp_path: Path):
    first = train(run_of("style-cin", pictures, "red"), tmp_path / "one")
    config = run_of("style-cin", pictures, "red", "blue", transfer=str(first), model={})
    with pytest.raises(
        ValueError, match=r"has learned 'red', but not 'blue': give images of new styles alone"
    ):
        resolve(config)


def test_every_third_step_trains_stylebanks_autoencoder_alone(pictures: dict[str, str]):
    config = resolve(run_of("style-stylebank", pictures, "red"))
    model = build_model(config)
    network = build_loss_network(config.loss, model)
    content = torch.rand(2, 3, 32, 32)
    identity = losses(
        model, network, config.loss, content, content, style_id=torch.zeros(2).long(), autoencoder=True
    )
    identity.total.backward()
    assert model.decoder.bank.banks[0].grad is None
    assert model.decoder.to_rgb.bias.grad is not None
    drawn = model.encode(content)
    for stage in (1, 2, 3):
        drawn = model.decoder.draw(stage, drawn)
    torch.testing.assert_close(identity.total, 20 * (drawn - content).square().mean())


def test_banks_change_in_stylizing_steps_only(pictures: dict[str, str], tmp_path: Path):
    """With autoencoder_every 2 the second step leaves them as they are, and the losses that the log shows."""
    for steps in (1, 2):
        config = run_of("style-stylebank", pictures, "red", steps=steps, loss__autoencoder_every=2)
        train(config, tmp_path / f"{steps}")
    one, two = (final_state(tmp_path / f"{steps}")["model"] for steps in (1, 2))
    bank, drawing = "decoder.bank.banks.0", "decoder.to_rgb.conv.weight"
    assert torch.equal(one[bank], two[bank])
    assert not torch.equal(one[bank], untrained(config).state_dict()[bank])
    assert not torch.equal(one[drawing], two[drawing])
    last = [json.loads((tmp_path / n / "stats.jsonl").read_text().splitlines()[-1]) for n in ("1", "2")]
    assert last[0]["loss/style"] > 0
    assert last[1].get("loss/style") in (None, last[0]["loss/style"])


def test_added_styles_resume_only_with_the_model_that_they_were_added_to(
    pictures: dict[str, str], tmp_path: Path
):
    """Everything but their numbers is read from that file again."""
    first = train(run_of("style-cin", pictures, "red"), tmp_path / "one")
    config = run_of("style-cin", pictures, "blue", transfer=str(first), model={})
    train(config, tmp_path / "more")
    assert train(config, tmp_path / "more").is_file()  # done already: nothing is trained
    written = load_style_config(str(tmp_path / "more" / "config.yaml"), {})
    assert resolve(written).model.learned_styles == ("red", "blue")
    other = train(run_of("style-cin", pictures, "red", runtime__seed=1), tmp_path / "other")
    first.write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match=r"transfer was .* contents differ"):
        train(config, tmp_path / "more")


def test_frozen_parameters_of_added_styles_take_no_gradient(pictures: dict[str, str], tmp_path: Path):
    first = train(run_of("style-cin", pictures, "red"), tmp_path / "one")
    model = build_model(resolve(run_of("style-cin", pictures, "blue", transfer=str(first), model={})))
    wanted = {name for name, p in model.named_parameters() if p.requires_grad}
    assert wanted == set(model.trainable())
    assert not model.training


def test_unfit_combinations_are_refused(pictures: dict[str, str], tmp_path: Path):
    learned = str(train(run_of("style-cin", pictures, "red"), tmp_path / "one"))
    reading = tmp_path / "adain.safetensors"
    make("residual-adain").save(reading)
    cascade = tmp_path / "cascade.safetensors"
    build(
        ModelSpec("none", (1, 1, 1, 1), architecture="cascade", modulation="wct", levels=((4,),)),
        VGGFeatures((1, 1, 1, 1)),
    ).save(cascade)
    for config, message in (
        (
            run_of("style-ghiasi", pictures, "red", transfer=learned, model={}),
            r"the model learns the styles red, and data.learn_styles is false",
        ),
        (
            run_of("style-cin", pictures, "red", transfer=str(reading), model={}),
            r"data.learn_styles is true, but the model of .* reads style images",
        ),
        (
            run_of("style-cin", pictures, "red", model__learned_styles=["pink"]),
            r"model.learned_styles is pink, but the style images are red",
        ),
        (
            run_of("style-ghiasi", pictures, "red", transfer=str(cascade), model={}),
            r"is a cascade, which is not trained",
        ),
        (
            run_of("style-cin", pictures, "red", loss__autoencoder_every=3, loss__reconstruction_weight=1),
            r"loss.autoencoder_every is 3, but model.architecture is johnson",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            resolve(config)


def test_a_style_that_cannot_be_read_is_no_style(pictures: dict[str, str], tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    config = resolve(
        run_of("style-cin", pictures | {"broken": str(tmp_path / "broken.png")}, "red", "broken")
    )
    with pytest.raises(ImageError, match=r"broken\.png"):
        build_data(config.data, 0, config.model)


@torch.no_grad()
def test_whole_styles_are_encoded_once(pictures: dict[str, str]):
    config = resolve(run_of("style-cin", pictures, "red", "green"))
    network = build_loss_network(config.loss, build_model(config))
    known = WholeStyles([network])
    style, ids = torch.rand(2, 3, 64, 64), torch.tensor([1, 0])
    (features,) = known.features(style, ids)
    for layer, x in network.normalized(style).items():
        torch.testing.assert_close(features[layer], x)
    (again,) = known.features(torch.zeros_like(style), ids.flip(0))
    for layer, x in features.items():
        assert torch.equal(again[layer], x.flip(0))


@pytest.mark.parametrize("key", ["change_colors", "photo_styles", "same_image"])
def test_learned_styles_stay_as_they_are(pictures: dict[str, str], key: str):
    with pytest.raises(ValueError, match=rf"data.{key} is 0.5, but data.learn_styles"):
        run_of("style-cin", pictures, "red", **{f"data__{key}": 0.5})


def test_two_files_of_one_name_are_refused(pictures: dict[str, str], tmp_path: Path):
    write_image(tmp_path / "other" / "red.png", np.zeros((70, 80, 3), np.uint8))
    config = run_of("style-cin", pictures | {"red2": str(tmp_path / "other" / "red.png")}, "red", "red2")
    with pytest.raises(ValueError, match="two style images are called 'red'"):
        resolve(config)


@pytest.mark.parametrize("preset", ["style-ghiasi", "style-din"])
def test_presets_of_predicted_styles_train(pictures: dict[str, str], preset: str, tmp_path: Path):
    """Their statistics of a style, and what they predict from it, change with training."""
    config = run_of(preset, pictures, "red", "green", steps=2)
    model = load(train(config, tmp_path / preset))
    fresh = untrained(config)
    assert {n for n, p in fresh.trainable().items() if torch.equal(p, model.state_dict()[n])} == set()
