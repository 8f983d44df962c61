"""If this fails, imported AdaIN weights stylise differently from the network they were trained as."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from ganmod.features import vgg as features
from ganmod.features.vgg import calibration_images
from ganmod.io.model_file import ModelFileError
from ganmod.io.pickles.restricted_unpickle import UnsafePickleError
from style_transfer import StyleTransferModel, load
from style_transfer.importers.adain import ImportAdainError, import_adain


class Files(NamedTuple):
    decoder: Path
    vgg: Path


class Reference(NamedTuple):
    decoder: nn.Sequential
    encoder: nn.Sequential


def conv(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(1), nn.Conv2d(in_channels, out_channels, 3), nn.ReLU()]


def upsample() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="nearest")


def pool() -> nn.Module:
    return nn.MaxPool2d(2, 2, ceil_mode=True)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """The two networks as PyTorch AdaIN lays them out, random, each layer near unit size."""
    torch.manual_seed(0)
    decoder = nn.Sequential(
        *(*conv(512, 256), upsample(), *conv(256, 256), *conv(256, 256), *conv(256, 256), *conv(256, 128)),
        *(upsample(), *conv(128, 128), *conv(128, 64), upsample(), *conv(64, 64), *conv(64, 3)[:2]),
    )
    encoder = nn.Sequential(
        *(nn.Conv2d(3, 3, 1), *conv(3, 64), *conv(64, 64), pool(), *conv(64, 128), *conv(128, 128), pool()),
        *(*conv(128, 256), *conv(256, 256), *conv(256, 256), *conv(256, 256), pool(), *conv(256, 512)),
    )
    for layer in (*decoder, *encoder):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.2)  # type: ignore[arg-type]
    return Reference(decoder.requires_grad_(False), encoder.requires_grad_(False))


@pytest.fixture
def files(reference: Reference, tmp_path: Path) -> Files:
    """decoder.pth and vgg_normalised.pth, the second with layers beyond relu4_1 as in the original."""
    files = Files(tmp_path / "decoder.pth", tmp_path / "vgg_normalised.pth")
    deeper = {"32.weight": torch.zeros(512, 512, 3, 3), "32.bias": torch.zeros(512)}
    torch.save(reference.decoder.state_dict(), files.decoder)
    torch.save(OrderedDict(reference.encoder.state_dict() | deeper), files.vgg)
    return files


@pytest.fixture(autouse=True)
def _small_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classic model divides by no RMS, so the photos that would set it may be small."""
    monkeypatch.setattr(features, "calibration_images", lambda: calibration_images(32))


def stylized(reference: Reference, content: Tensor, style: Tensor) -> Tensor:
    """decoder(sd(y) * (x - mu(x)) / sd(x) + mu(y)) at relu4_1, sd = sqrt(unbiased variance + 1e-5)."""
    x, y = reference.encoder(content), reference.encoder(style)

    def mu(features: Tensor) -> Tensor:
        return features.flatten(2).mean(dim=2)[:, :, None, None]

    def sd(features: Tensor) -> Tensor:
        return (features.flatten(2).var(dim=2, unbiased=True) + 1e-5).sqrt()[:, :, None, None]

    return reference.decoder(sd(y) * (x - mu(x)) / sd(x) + mu(y))


def images() -> tuple[Tensor, Tensor]:
    """A content and a style of other size, sides multiples of 8."""
    generator = torch.Generator().manual_seed(1)
    smooth = nn.AvgPool2d(5, 1, 2)
    return smooth(torch.rand(2, 3, 48, 40, generator=generator)), smooth(
        torch.rand(2, 3, 32, 56, generator=generator)
    )


def assert_equal_output(model: StyleTransferModel, reference: Reference) -> None:
    content, style = images()
    with torch.no_grad():
        expected = stylized(reference, content, style)
        out = model(content, style)
    assert expected.std() > 0.3  # the tolerance below means something
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_the_imported_model_stylises_as_the_original_does(files: Files, reference: Reference):
    model = import_adain(files.decoder, files.vgg)
    assert_equal_output(model, reference)
    assert (model.spec.architecture, model.spec.encoder) == ("classic", "vgg19")
    assert model.encoder.rms[3] == 1
    assert torch.equal(model.feature_rms, torch.ones(512))
    assert not model.training


def test_a_saved_import_gives_the_same_pictures(files: Files, reference: Reference, tmp_path: Path):
    import_adain(files.decoder, files.vgg).save(tmp_path / "classic.safetensors", store_encoder=True)
    assert_equal_output(load(tmp_path / "classic.safetensors"), reference)


def test_an_import_saved_in_half_precision_is_near(files: Files, reference: Reference, tmp_path: Path):
    import_adain(files.decoder, files.vgg).save(tmp_path / "half.safetensors", half=True, store_encoder=True)
    content, style = images()
    with torch.no_grad():
        expected, out = (
            stylized(reference, content, style),
            load(tmp_path / "half.safetensors")(content, style),
        )
    assert (out - expected).square().mean().sqrt() < 0.01 * expected.std()


def test_swapped_files_are_told(files: Files):
    with pytest.raises(ImportAdainError, match=r"give decoder\.pth first, vgg_normalised\.pth second"):
        import_adain(files.vgg, files.decoder)


@pytest.mark.parametrize("which", ["decoder", "vgg"])
def test_the_same_file_twice_is_told(files: Files, which: str):
    path = getattr(files, which)
    with pytest.raises(ImportAdainError, match=r"is not the (decoder|vgg_normalised)\.pth .* missing: "):
        import_adain(path, path)


@pytest.mark.parametrize(
    ("which", "key", "name"),
    [
        ("decoder", "14.bias", "decoder.pth"),
        ("vgg", "29.weight", "vgg_normalised.pth"),
        ("vgg", "0.bias", "vgg_"),
    ],
)
def test_a_missing_tensor_is_named(files: Files, reference: Reference, which: str, key: str, name: str):
    path = getattr(files, which)
    state = torch.load(path, weights_only=True)
    del state[key]
    torch.save(state, path)
    with pytest.raises(ImportAdainError, match=rf"{name}.*missing: {key};") as error:
        import_adain(*files)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("which", ["decoder", "vgg"])
def test_a_tensor_of_other_shape_is_named(files: Files, which: str):
    path, key = (files.decoder, "11.weight") if which == "decoder" else (files.vgg, "12.weight")
    state = torch.load(path, weights_only=True)
    shape = list(state[key].shape)
    state[key] = state[key][:7]
    torch.save(state, path)
    with pytest.raises(
        ImportAdainError, match=rf"{path}.*wrong shape: {key} \(got \[7, .*expected \[{shape[0]}, "
    ):
        import_adain(*files)


def test_many_faults_are_listed_shortly(files: Files):
    torch.save({"layer.weight": torch.zeros(1)}, files.decoder)
    with pytest.raises(ImportAdainError) as error:
        import_adain(*files)
    message = str(error.value)
    assert "missing: 1.weight, 1.bias, 5.weight, 5.bias, 8.weight and 13 more" in message
    assert "first names are layer.weight" in message


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), "text"])
def test_a_file_that_is_no_state_dict_is_told(files: Files, content: object):
    torch.save(content, files.vgg)
    with pytest.raises(ImportAdainError, match=r"vgg_normalised\.pth holds a \w+, expected a state dict"):
        import_adain(*files)


def test_foreign_and_missing_files_are_told(files: Files, tmp_path: Path):
    files.vgg.write_bytes(b"no weights")
    with pytest.raises(ModelFileError, match="vgg_normalised"):
        import_adain(*files)
    with pytest.raises(ModelFileError, match=r"absent\.pth: no such file"):
        import_adain(tmp_path / "absent.pth", files.vgg)


def test_a_whole_pickled_module_is_refused_unread(files: Files, reference: Reference):
    torch.save(reference.decoder, files.decoder)
    with pytest.raises(UnsafePickleError, match="nothing was run"):
        import_adain(*files)
