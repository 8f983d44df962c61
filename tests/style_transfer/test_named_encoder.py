"""If this fails, model files hold VGG-19's weights, or run on features foreign to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_vgg19 import save_torchvision
from safetensors import safe_open

from ganmod.features.vgg import FeatureError, load_features, weights_digest
from style_transfer import ModelSpec, StyleTransferModel, load


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "weights.pth"
    save_torchvision(path)
    return path


@pytest.fixture(scope="module")
def model(vgg: Path) -> StyleTransferModel:
    torch.manual_seed(0)
    encoder = load_features("vgg19", path=vgg)
    spec = ModelSpec(
        "vgg19", (64, 128, 256, 512), architecture="residual", style_dim=4, width=16, num_blocks=1
    )
    return StyleTransferModel(spec, encoder).eval()


def tensor_names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


def test_the_file_holds_the_hash_in_place_of_the_weights(
    model: StyleTransferModel, vgg: Path, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    model.save(file)
    assert [name for name in tensor_names(file) if name.startswith("encoder.")] == ["encoder.rms"]
    loaded = load(file, encoder_weights=vgg)
    x, style = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 48)
    torch.testing.assert_close(loaded(x, style), model(x, style))


def test_another_encoder_is_refused(model: StyleTransferModel, vgg: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    model.save(file)
    state = torch.load(vgg, weights_only=True)
    state["features.0.bias"][0] += 0.5
    torch.save(state, tmp_path / "other.pth")
    digest = weights_digest(model.encoder)
    with pytest.raises(FeatureError, match=rf"needs the weights of vgg19 with the SHA-256 {digest}, but"):
        load(file, encoder_weights=tmp_path / "other.pth")
    with pytest.raises(FeatureError, match="VGG-19 weights not found"):
        load(file, encoder_weights=tmp_path / "missing.pth")


def test_a_file_may_hold_them_and_other_encoders_files_do(model: StyleTransferModel, tmp_path: Path) -> None:
    model.save(tmp_path / "whole.safetensors", store_encoder=True)
    whole = load(tmp_path / "whole.safetensors")
    assert weights_digest(whole.encoder) == weights_digest(model.encoder)
    other = StyleTransferModel(replace(model.spec, encoder="other"), model.encoder)
    other.save(tmp_path / "other.safetensors")
    assert "encoder.convs.4_1.weight" in tensor_names(tmp_path / "other.safetensors")


def test_the_digest_is_of_the_weights_alone(vgg: Path) -> None:
    network = load_features("vgg19", path=vgg)
    digest = weights_digest(network)
    network.rms.mul_(2)
    assert weights_digest(network) == digest
    network.conv0.bias.data[0] += 1e-3  # type: ignore[index]
    assert weights_digest(network) != digest
