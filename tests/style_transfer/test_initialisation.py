"""If this fails, an untrained model is blind to its content, or its signal dies or explodes in it."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganmod.features.vgg import SLIM_WIDTHS, VGGFeatures, load_features
from ganmod.modulation import AdaConv, list_modulations
from style_transfer import ModelSpec, StyleTransferModel, build, prepare_style
from style_transfer.procedural_styles import builtin_contents, draw_style_set

SIZE = 128
SCALES = 4


@pytest.fixture(scope="module")
def encoder() -> VGGFeatures:
    return load_features("ganmod-slim")


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """Four photos, [4,3,S,S] in [0,1]."""
    return torch.cat([as_batch(image) for image in builtin_contents().values()])


@pytest.fixture(scope="module")
def styles() -> Tensor:
    """As many drawn styles, [4,3,S,S] in [0,1]."""
    return torch.cat([as_batch(image) for _, image in draw_style_set(4, SIZE)])


def as_batch(image: np.ndarray) -> Tensor:
    return prepare_style(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255, SIZE)


def build_untrained(modulation: str, encoder: VGGFeatures, seed: int = 0) -> StyleTransferModel:
    torch.manual_seed(seed)
    spec = ModelSpec("ganmod-slim", SLIM_WIDTHS, modulation=modulation, style_dim=32, style_image_size=SIZE)
    return build(spec, encoder)


def deviations(model: StyleTransferModel, photos: Tensor, styles: Tensor) -> dict[str, list[float]]:
    """Standard deviations before `modulate` and at the input of `convolve`, coarse to fine."""
    found = defaultdict(list)
    for layer in model.decoder.first:
        modulation = layer.modulation
        assert isinstance(modulation, nn.Module)

        def modulate(x: Tensor, params, original=modulation.modulate) -> Tensor:
            found["modulate"].append(x.std().item())
            return original(x, params)

        def convolve(x: Tensor, conv, params, original=modulation.convolve) -> Tensor:
            found["convolve"].append(x.std().item())
            return original(x, conv, params)

        modulation.modulate, modulation.convolve = modulate, convolve  # type: ignore[assignment]
    with torch.no_grad():
        model(photos, styles)
    return found


@pytest.mark.parametrize("modulation", list_modulations("vector"))
def test_the_signal_has_unit_size_at_every_modulated_convolution(
    modulation: str, encoder: VGGFeatures, photos: Tensor, styles: Tensor
):
    found = deviations(build_untrained(modulation, encoder), photos, styles)
    assert sorted(found) == ["convolve", "modulate"]
    for method, values in found.items():
        assert len(values) == SCALES
        assert all(0.3 <= value <= 3 for value in values), f"{method}: {values}"


@pytest.mark.parametrize("modulation", list_modulations("vector"))
def test_another_photo_gives_another_picture(
    modulation: str, encoder: VGGFeatures, photos: Tensor, styles: Tensor
):
    """With one style and untrained weights, the change exceeds a tenth of the picture's deviation."""
    with torch.no_grad():
        pictures = build_untrained(modulation, encoder)(photos, styles[:1].expand_as(styles))
    for other in (1, 2, 3):
        change = (pictures[other] - pictures[0]).square().mean().sqrt()
        assert change > 0.1 * pictures[0].std()


@pytest.mark.parametrize("modulation", list_modulations("vector"))
def test_another_style_gives_another_picture(
    modulation: str, encoder: VGGFeatures, photos: Tensor, styles: Tensor
):
    with torch.no_grad():
        pictures = build_untrained(modulation, encoder)(photos[:1].expand_as(photos), styles)
    for other in (1, 2, 3):
        change = (pictures[other] - pictures[0]).square().mean().sqrt()
        assert change > 0.02 * pictures[0].std()


def test_pictures_start_within_reach_of_photos(encoder: VGGFeatures, photos: Tensor, styles: Tensor):
    for modulation in list_modulations("vector"):
        with torch.no_grad():
            picture = build_untrained(modulation, encoder)(photos, styles)
        assert abs(picture.mean().item() - 0.5) < 0.25
        assert 0.03 < picture.std().item() < 0.5


def test_kernels_predicted_from_nothing_would_let_the_signal_die(
    encoder: VGGFeatures, photos: Tensor, styles: Tensor
):
    """Why AdaConv's kernels are residuals to the identity: without it these tests find what they look for."""
    model = build_untrained("adaconv", encoder)
    for layer in model.decoder.first:
        assert isinstance(layer.modulation, AdaConv)
        layer.modulation.kernel_predictor.identity.zero_()
    assert max(deviations(model, photos, styles)["convolve"]) < 0.3
