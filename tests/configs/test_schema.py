"""If this fails, a typo in a configuration goes unnoticed, or a run's config.yaml does not repeat the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.schema import (
    ConfigError,
    StyleRun,
    list_presets,
    load_starganv2_config,
    load_style_config,
    load_stylegan2_config,
    parse_setting,
    to_yaml,
)


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_loads_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    loaders: dict[str, Callable] = {"stylegan2": load_stylegan2_config, "starganv2": load_starganv2_config}
    load = loaders.get(name.split("-")[0], load_style_config)
    config = load(name, {})
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    assert load(str(file), {}) == config


def test_a_presets_regularisation_is_of_its_objective(tmp_path: Path) -> None:
    preset = load_stylegan2_config("stylegan2-cifar10", {}).loss
    assert (preset.r1_gamma, preset.pl_weight) == (0.01, 0)
    for change in ({"loss.objective": "r3"}, {"model.discriminator": "projected"}):
        loss = load_stylegan2_config("stylegan2-cifar10", {**change, "loss.r1_interval": 4}).loss
        assert loss.model_fields_set == {key.removeprefix("loss.") for key in change if "loss" in key} | {
            "r1_interval"
        }
    same = load_stylegan2_config("stylegan2-cifar10", {"loss.objective": "nonsaturating"}).loss
    assert (same.r1_gamma, same.pl_weight) == (0.01, 0)
    file = tmp_path / "mine.yaml"
    file.write_text("loss: {r1_gamma: 3}")  # which its author wrote for any objective
    assert load_stylegan2_config(str(file), {"loss.objective": "r3"}).loss.r1_gamma == 3


def test_published_numbers_of_the_full_width_preset() -> None:
    config = load_style_config("style-adaconv", {})
    model = config.model
    assert (model.style_dim, model.descriptor_size, model.style_image_size) == (512, 3, 256)
    assert (config.schedule.batch_size, config.schedule.total_kimg) == (8, 1280)  # 160k steps of 8
    assert (config.loss.content_weight, config.loss.style_weight) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer.rl": 0.1}, "optimizer.rl: no such key, expected one of lr, beta1"),
        ({"optimizer.beta3": 0.1}, "optimizer.beta3: no such key, did you mean 'beta"),
        ({"model.style_dims": 8}, "model.style_dims: no such key, did you mean 'style_dim'?"),
        ({"model.style_dim": 0}, "model.style_dim: Input should be greater than 0"),
        ({"optimizer.lr": -1}, "optimizer.lr: Input should be greater than 0"),
        ({"data.crop": 100}, "data.crop 100 is not a multiple of 8: try 96 or 104"),
        ({"data.short_side": 64}, "data.short_side 64 is below data.crop: try 256"),
        ({"model.style_image_size": 100}, "is not a multiple of 64: try 128 or 256"),
        ({"schedule.microbatch": 3}, "batch_size 2 is not a multiple of schedule.microbatch 3: try 3"),
        ({"model.style_dim": 2**31}, "model.style_dim: Input should be less than 2147483648"),
        ({"loss.style_weight": float("inf")}, "loss.style_weight: Input should be a finite number"),
        (
            {"model.architecture": "classic", "model.modulation_options": {"normalize": "none"}},
            "model.modulation_options are given, but model.architecture classic has no modulation",
        ),
        ({"loss.style": "grams"}, "loss.style: Input should be 'mean_std', 'gram' or 'shifted_gram'"),
        ({"recipe.name": 1}, "recipe.name: recipe is a value, not a section"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_style_config("style-adaconv-slim", changes)
    assert message in str(caught.value)


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"no preset or file named 'style-adacov'\. Presets: .*style-adaconv, "
    ):
        load_style_config("style-adacov", {})


def test_settings_are_read_as_yaml() -> None:
    assert parse_setting("optimizer.lr=1.0e-3") == ("optimizer.lr", 0.001)
    assert parse_setting("data.content=[a, b]") == ("data.content", ["a", "b"])
    assert parse_setting("model.modulation=adain") == ("model.modulation", "adain")
    with pytest.raises(ConfigError, match="expected key=value"):
        parse_setting("optimizer.lr")


def test_configurations_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        StyleRun().recipe = "other"  # type: ignore[assignment, misc]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model: " + "[" * 2000, "nested beyond"),
        ("a: !!int ''", "is no YAML"),
        ("a: !!timestamp x", "is no YAML"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: [", "expected the node content"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_in_a_file_and_as_a_setting(
    text: str, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"c\.yaml [^$]*{reason}"):
        load_style_config(str(file), {})
    with pytest.raises(ConfigError, match=rf"--set a: [^$]*{reason}") as refused:
        parse_setting(f"a={text}")
    assert len(str(refused.value)) < 500


def test_a_huge_file_is_no_configuration(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("# comment\n" * 200_000)
    with pytest.raises(ConfigError, match=r"c\.yaml has 2,000 KB, and the limit is 1,024"):
        load_style_config(str(file), {})
