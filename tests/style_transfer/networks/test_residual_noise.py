"""If this fails, the grain of a picture depends on the tile, the machine or the batch."""

from __future__ import annotations

import pytest
import torch
from tiny_style_model import make
from torch import nn

from style_transfer.networks.residual_host import NOISE_SIDE, fixed_noise


def test_the_noise_is_standard_normal_and_the_same_everywhere() -> None:
    noise = fixed_noise()
    assert noise.shape == (NOISE_SIDE, NOISE_SIDE)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    # numpy guarantees the streams of RandomState.
    assert noise.flatten()[:3].tolist() == pytest.approx([1.7640524, 0.4001572, 0.978738])


def test_a_tiles_noise_is_that_of_its_position() -> None:
    encoder = make("residual-adaconv").content_encoder
    assert encoder is not None
    x = torch.rand(2, 3, 520, 40)
    whole = encoder(x)
    assert whole.shape == (2, 16 + 64, 130, 10)
    for top in (8, 256, 300):
        part = encoder(x[:, :, top : top + 64], origin=(top, 0))
        rows = slice(top // 4, top // 4 + 16)
        torch.testing.assert_close(part[:, 16:], whole[:, 16:, rows])
    # What is carried is the image and the noise, cell by cell.
    carried = nn.functional.pixel_shuffle(nn.functional.pixel_shuffle(whole[:, 16:], 2), 2)
    torch.testing.assert_close(carried[:, :3], (x - 0.5) * 4)
    expected = fixed_noise().repeat(3, 1)[:520, :40]
    torch.testing.assert_close(carried[:, 3], expected.expand(2, -1, -1))


def test_noise_enters_by_the_gains() -> None:
    model = make("residual-adaconv")
    x, style = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        without = model(x, style)
        elsewhere = model.decode(model.encode(x, origin=(40, 80)), model.predict(style))
        torch.testing.assert_close(elsewhere, without, rtol=0, atol=0)  # gains begin at 0
        changes = []
        for gain in model.decoder.noise_gains:  # type: ignore[union-attr]
            gain.fill_(0.5)
            changes.append((model(x, style) - without).abs().mean().item())
            gain.zero_()
    assert min(changes) > 1e-4
