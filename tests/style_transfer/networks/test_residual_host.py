"""If this fails, the residual host reads other statistics than the losses compare, or loses the photo's
pixels.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_style_model import SIZE, WIDTHS, make
from torch import Tensor

from ganmod.features.style_losses import mean_std_loss
from style_transfer.model import StyleTransferModel
from style_transfer.networks.residual_host import ContentEncoder, StatisticsStyleEncoder


@pytest.fixture
def encoder() -> StatisticsStyleEncoder:
    torch.manual_seed(0)
    return StatisticsStyleEncoder(WIDTHS, style_dim=5, descriptor_size=3).double()


def features(height: int = 24, width: int = 16) -> dict[str, Tensor]:
    """Of two images, at four scales."""
    generator = torch.Generator().manual_seed(1)
    return {
        f"relu{i + 1}_1": torch.rand(2, c, height >> i, width >> i, generator=generator, dtype=torch.float64)
        for i, c in enumerate(WIDTHS)
    }


def test_statistics_are_those_of_the_style_loss(encoder: StatisticsStyleEncoder):
    """Their squared distance, averaged per layer, is the loss."""
    first = features()
    second = {name: x.flip(1) * 2 for name, x in first.items()}
    difference = (encoder.statistics(first) - encoder.statistics(second)).square()
    means, deviations = difference.split(sum(WIDTHS), dim=1)
    by_layer = [part.mean(dim=1) for x in (means, deviations) for part in x.split(WIDTHS, dim=1)]
    torch.testing.assert_close(sum(by_layer), mean_std_loss(first, second))


def test_what_it_reads_beyond_them_are_covariances(encoder: StatisticsStyleEncoder):
    """A float64 reference: covariances of the projected, scaled channels of each layer."""
    read: list[Tensor] = []
    encoder.layers[0].register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
    given = features()
    encoder(given)
    found = read[0][:, 2 * sum(WIDTHS) :].reshape(2, len(WIDTHS), -1)
    rows, columns = torch.triu_indices(16, 16)
    for layer, (projection, x) in enumerate(zip(encoder.projections, given.values(), strict=True)):
        weight = projection.weight * projection.gain  # type: ignore[operator]
        for sample in range(2):
            # Uncalibrated: the centre is 0, so all are divided by 0 + 0.1.
            projected = weight @ (x[sample].flatten(1) / 0.1)
            covariance = torch.cov(projected, correction=0)
            torch.testing.assert_close(found[sample, layer], covariance[rows, columns])


def test_position_does_not_matter(encoder: StatisticsStyleEncoder):
    """A style turned upside down pixel by pixel has the same statistics, and so has one twice as large."""
    given = features()
    expected = encoder(given)
    torch.testing.assert_close(encoder({name: x.flip(2, 3) for name, x in given.items()}), expected)
    tiled = {name: x.repeat(1, 1, 2, 3) for name, x in given.items()}
    torch.testing.assert_close(encoder(tiled), expected)


def test_calibrated_statistics_are_centred(encoder: StatisticsStyleEncoder):
    given = {name: torch.cat([x, x * 3, x + 1]) for name, x in features().items()}
    encoder.calibrate(lambda images: given)
    scaled = (encoder.statistics(given) - encoder.center) / encoder.spread
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros_like(scaled[0]))
    assert scaled.std(dim=0).max() <= 1


def test_pixels_pass_unchanged():
    x = torch.rand(1, 3, 16, 24)
    carried = ContentEncoder(16)(x)[:, 16:]
    assert carried.shape == (1, 64, 4, 6)
    restored = F.pixel_shuffle(F.pixel_shuffle(carried, 2), 2)
    torch.testing.assert_close(restored[:, :3], (x - 0.5) * 4)


@pytest.mark.parametrize("kind", ["residual-adaconv", "residual-adain", "residual-weight_demod"])
@torch.no_grad()
def test_the_last_stage_sees_the_contents_pixels(kind: str):
    """With all else that reaches it at zero, the result still follows the content pixel by pixel."""
    model = make(kind)
    received: list[Tensor] = []
    plain = model.decoder.modulated_conv(6)
    modulate = plain.modulation.modulate
    plain.modulation.modulate = lambda x, p: (received.append(x), modulate(x, p))[1]  # type: ignore[assignment]
    content = torch.rand(1, 3, 32, 32)
    model.decode(model.encode(content), model.predict(torch.rand(1, 3, 40, 72)))
    torch.testing.assert_close(received[0][:, -3:], (content - 0.5) * 4)


def test_styles_of_any_size_and_aspect_count_whole():
    model = make("residual-adaconv")
    assert model.sees_whole_styles
    wide = model.prepare_style(torch.rand(1, 3, 100, 200))
    assert wide.shape == (1, 3, SIZE, 128)
    left, right = wide.clone(), wide.clone()
    left[..., :40] = 0  # what a centre square would not see
    assert _distance(model, left, wide) > 1e-3
    assert _distance(model, right, wide) == 0
    assert model.prepare_style(torch.rand(1, 3, 64, 64), scale=0.5).shape == (1, 3, 32, 32)
    assert model.prepare_style(torch.rand(1, 3, 64, 96), scale=2).shape == (1, 3, 128, 128)
    turned = model.prepare_style(wide, degrees=180)
    torch.testing.assert_close(turned, wide.flip(2, 3), rtol=0, atol=1e-4)


@torch.no_grad()
def _distance(model: StyleTransferModel, first: Tensor, second: Tensor) -> float:
    pairs = zip(model.predict(first), model.predict(second), strict=True)
    return float(max((x - y).abs().max() for a, b in pairs for x, y in zip(a, b, strict=True)))
