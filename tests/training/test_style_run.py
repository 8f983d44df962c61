"""If this fails, sharing the encoder's work with the loss network changes what is trained."""

from __future__ import annotations

import pytest
import torch

from configs.style import StyleLoss
from ganmod.features.spectrum_loss import spectrum_loss
from ganmod.features.vgg import VGGFeatures
from style_transfer import ModelSpec, build
from training.style.losses import same_network, style_transfer_losses

WIDTHS = (4, 6, 8, 10)


def network(seed: int) -> VGGFeatures:
    torch.manual_seed(seed)
    features = VGGFeatures(WIDTHS)
    for conv in features.convs.values():
        torch.nn.init.kaiming_normal_(conv.weight)  # type: ignore[arg-type]
    features.calibrate(torch.rand(2, 3, 64, 64))
    return features.requires_grad_(False)


@pytest.mark.parametrize("architecture", ["modulated", "classic"])
@pytest.mark.parametrize("side", [64, 96])  # the style encoder's size, and another
def test_shared_features_give_the_same_losses_and_gradients(
    architecture: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModelSpec(
        "own",
        WIDTHS,
        architecture=architecture,  # type: ignore[arg-type]
        style_dim=8,
        style_image_size=64,
    )
    model = build(spec, network(0)).double()
    loss_network = network(0).double()
    content, style = (torch.rand(2, 3, side, side, dtype=torch.float64) for _ in range(2))
    results, passes = [], []
    plain = VGGFeatures.normalized

    def count(self: VGGFeatures, x: torch.Tensor) -> dict[str, torch.Tensor]:
        passes.append(len(x))
        return plain(self, x)

    monkeypatch.setattr(VGGFeatures, "normalized", count)
    for shared in (False, True):
        losses = style_transfer_losses(model, loss_network, StyleLoss(), content, style, shared=shared)
        gradients = torch.autograd.grad(losses.total, list(model.trainable().values()))
        results.append([*losses, *gradients])
    # Two contents and two styles pass twice, or once where they serve; the two results once.
    fits = side == 64 or architecture == "classic"
    assert sum(passes) == 10 + (6 if fits else 8)
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_networks_are_the_same_only_with_the_same_values() -> None:
    first, second = network(0), network(0)
    assert same_network(first, second)
    second.rms[2] += 1e-3
    assert not same_network(first, second)
    assert not same_network(first, VGGFeatures((4, 6, 8, 12)))


def test_with_a_second_network_losses_are_means_and_the_spectrum_is_added() -> None:
    model = build(ModelSpec("own", WIDTHS, architecture="residual", style_dim=4, width=16), network(0))
    content, style = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    networks = (network(1), network(2))
    config = StyleLoss(content_weight=2.0, style_weight=5.0)
    one, other = (style_transfer_losses(model, n, config, content, style) for n in networks)
    both = style_transfer_losses(model, networks[0], config, content, style, second=networks[1])
    torch.testing.assert_close(both.content, (one.content + other.content) / 2)
    torch.testing.assert_close(both.style, (one.style + other.style) / 2)
    torch.testing.assert_close(both.total, 2 * both.content + 5 * both.style)
    weighted = config.model_copy(update={"spectrum_weight": 0.7})
    total = style_transfer_losses(model, networks[0], weighted, content, style).total
    spectrum = spectrum_loss(model(content, style), style).mean()
    torch.testing.assert_close(total - one.total, 0.7 * spectrum)
    assert spectrum > 0.01
