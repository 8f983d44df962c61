"""If this fails, files that people keep from an earlier release no longer load, or mean something else.

support/older_files holds a tiny untrained model of each kind and a configuration of each recipe, written by
commit ddbec53, and in expected.safetensors the results of that commit's code.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

import ganmod
import style_transfer
from configs import schema
from ganmod.io.model_file import ModelFileError, read_model_file, save_model_file
from ganmod.starganv2 import load_starganv2
from ganmod.stylegan2.latent_file import load_latents

FILES = Path(__file__).parent / "support" / "older_files"
MODULATIONS = ("adaconv", "adain", "weight_demod")


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return load_file(FILES / "expected.safetensors")


@pytest.mark.parametrize("kind", [*MODULATIONS, "classic"])
def test_style_models_give_the_same_picture(kind: str, expected: dict[str, Tensor]) -> None:
    model = style_transfer.load(FILES / f"style-{kind}.safetensors")
    picture = model.stylize(expected["content"], expected["style"])
    assert_close(picture, expected[f"style-{kind}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_stylegan2_gives_the_same_images(modulation: str, expected: dict[str, Tensor]) -> None:
    G = ganmod.load(FILES / f"stylegan2-{modulation}.safetensors")
    with torch.no_grad():
        images = G(expected[f"z-{modulation}"], noise_mode="const")
    assert_close(images, expected[f"stylegan2-{modulation}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_starganv2_gives_the_same_images(modulation: str, expected: dict[str, Tensor]) -> None:
    model = load_starganv2(FILES / f"starganv2-{modulation}.safetensors")
    name, domain = f"starganv2-{modulation}", torch.tensor([1])
    img, z = expected[f"{name}.img"], expected[f"{name}.z"]
    with torch.no_grad():
        by_latent = model.G(img, model.mapping(z, domain))
        by_reference = model.G(img, model.style_encoder(img, domain))
    assert_close(by_latent, expected[f"{name}.latent"], rtol=0, atol=1e-5)
    assert_close(by_reference, expected[f"{name}.reference"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["style", "stylegan2", "starganv2"])
def test_models_with_demodulated_outputs_are_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    """AdaConv's `normalize: demod_output` is gone; the files name it in their configuration."""
    file = read_model_file(FILES / f"{kind}-adaconv.safetensors")
    section = {"style": "model", "stylegan2": "generator", "starganv2": "networks"}[kind]
    config = copy.deepcopy(file.config)
    config[section]["modulation_options"] = {"normalize": "demod_output"}
    save_model_file(tmp_path / "m.safetensors", file.tensors, kind=file.kind, config=config)
    load = {"style": style_transfer.load, "stylegan2": ganmod.load, "starganv2": load_starganv2}[kind]
    with pytest.raises(ModelFileError) as refused:
        load(tmp_path / "m.safetensors")
    message = str(refused.value)
    assert message.startswith(str(tmp_path / "m.safetensors"))
    assert "option normalize: Input should be 'instance', 'none' or 'demod', got 'demod_output'" in message
    assert "\n" not in message


def test_latents_are_the_same(expected: dict[str, Tensor]) -> None:
    G = ganmod.load(FILES / "stylegan2-adain.safetensors")
    assert torch.equal(load_latents(FILES / "latents.safetensors", G).ws, expected["latents"])


@pytest.mark.parametrize("recipe", ["style", "stylegan2", "starganv2"])
def test_configurations_keep_their_values(recipe: str) -> None:
    load = getattr(schema, f"load_{recipe}_config")
    text = (FILES / f"{recipe}.yaml").read_text()
    loaded = yaml.safe_load(schema.to_yaml(load(str(FILES / f"{recipe}.yaml"), {})))
    for section, values in yaml.safe_load(text).items():
        for key, value in values.items() if isinstance(values, dict) else []:
            assert loaded[section][key] == value, f"{section}.{key}"
