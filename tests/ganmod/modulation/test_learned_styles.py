"""If this fails, modulations of learned styles, or DIN, are not the published ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.modulation import Modulation, StyleSpec, create_modulation
from ganmod.modulation.din import bilinear_taps
from ganmod.modulation.statistics import mean_std

CHANNELS, STYLES = 4, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(name: str, kind: str = "id", dim: int = STYLES, **options: object) -> Modulation:
    torch.manual_seed(0)
    spec = StyleSpec("id" if kind == "id" else "vector", dim)
    return create_modulation(name, CHANNELS, spec, options).double()


def one_hot(*styles: int) -> Tensor:
    return F.one_hot(torch.tensor(styles), STYLES).double()


def normalized(x: Tensor) -> Tensor:
    mean = x.mean(dim=(2, 3), keepdim=True)
    return (x - mean) / (x.var(dim=(2, 3), correction=0, keepdim=True) + 1e-5).sqrt()


def test_cin_gives_each_channel_the_styles_deviation_and_mean() -> None:
    cin, x = make("cin"), 3 * draw(2, CHANNELS, 6, 7) + 1
    mean, std = mean_std(cin.modulate(x, cin.predict(one_hot(2, 0))), eps=0)
    for sample, style in enumerate((2, 0)):
        torch.testing.assert_close(mean[sample, :, 0, 0], cin.shifts[style].detach())
        torch.testing.assert_close(std[sample, :, 0, 0], cin.scales[style].detach().abs(), rtol=1e-5, atol=0)


def test_a_mixture_of_styles_has_mixed_scales_and_shifts() -> None:
    cin = make("cin")
    mixed = cin.predict(torch.tensor([[0.25, 0.0, 0.75]]).double())
    torch.testing.assert_close(mixed.scale[0], 0.25 * cin.scales[0] + 0.75 * cin.scales[2])
    torch.testing.assert_close(mixed.shift[0], 0.25 * cin.shifts[0] + 0.75 * cin.shifts[2])


def test_a_filter_bank_is_two_normalised_convolutions() -> None:
    bank, x = make("stylebank"), draw(2, CHANNELS, 6, 7)
    out = bank.modulate(x, bank.predict(one_hot(1, 2)))
    for sample, style in enumerate((1, 2)):
        expected = x[sample : sample + 1]
        for kernel in bank.banks[style].chunk(2):
            padded = F.pad(expected, (1, 1, 1, 1), mode="reflect")
            expected = normalized(F.conv2d(padded, kernel * (9 * CHANNELS) ** -0.5)).relu()
        torch.testing.assert_close(out[sample : sample + 1], expected)


@pytest.mark.parametrize("name", ["cin", "stylebank"])
def test_one_style_does_not_touch_the_others(name: str) -> None:
    """Neither gradients of another style, nor a model with one more."""
    modulation, x = make(name), draw(1, CHANNELS, 6, 7)
    modulation.modulate(x, modulation.predict(one_hot(1))).square().sum().backward()
    for parameter, number in ((p, int(key.rpartition(".")[2])) for key, p in modulation.named_parameters()):
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).any()) == (number == 1)
    larger = make(name, dim=STYLES + 1)
    known = modulation.state_dict()
    larger.load_state_dict({**larger.state_dict(), **known})
    assert set(larger.state_dict()) - set(known) == {
        key.rpartition(".")[0] + f".{STYLES}" for key in known if key.endswith(".0")
    }
    more = F.one_hot(torch.tensor([1]), STYLES + 1).double()
    assert torch.equal(
        larger.modulate(x, larger.predict(more)), modulation.modulate(x, modulation.predict(one_hot(1)))
    )


def test_din_is_a_predicted_convolution_of_normalised_features() -> None:
    din, x, style = (
        make("din", "vector", kernel_budget=2 * CHANNELS),
        draw(2, CHANNELS, 6, 7),
        draw(2, 3, seed=1),
    )
    params = din.predict(style)
    assert params.weight.shape == (2, CHANNELS, 2, 1, 1)
    dense = torch.zeros(2, CHANNELS, CHANNELS, dtype=torch.float64)
    for group in range(2):
        part = slice(2 * group, 2 * group + 2)
        dense[:, part, part] = params.weight[:, part, :, 0, 0]
    expected = torch.einsum("noc,nchw->nohw", dense, normalized(x)) + params.bias[:, :, None, None]
    torch.testing.assert_close(din.modulate(x, params), expected)


def test_din_without_a_residual_is_instance_normalisation() -> None:
    din, x = make("din", "vector", residual_gain=0.0), draw(1, CHANNELS, 6, 7)
    torch.testing.assert_close(din.modulate(x, din.predict(draw(1, 3))), normalized(x))


def test_offsets_sample_the_features_bilinearly() -> None:
    offsets = torch.tensor([[[0.5, -1.25], [2.0, 0.0], [-0.75, 1.5], [0.0, 0.0]]]).double()
    x = draw(1, CHANNELS, 9, 11)
    taps = bilinear_taps(offsets, 2)
    ours = F.conv2d(F.pad(x, (2,) * 4, mode="reflect"), taps[0][:, None], groups=CHANNELS)
    rows, columns = torch.meshgrid(torch.arange(9).double(), torch.arange(11).double(), indexing="ij")
    for channel, (down, right) in enumerate(offsets[0].tolist()):
        grid = torch.stack([2 * (columns + right) / 10 - 1, 2 * (rows + down) / 8 - 1], dim=2)[None]
        theirs = F.grid_sample(
            x[:, channel : channel + 1], grid, padding_mode="reflection", align_corners=True
        )
        torch.testing.assert_close(ours[:, channel], theirs[:, 0])


def test_an_offset_is_at_most_the_largest() -> None:
    din = make("din", "vector", max_offset=1)
    taps = din.predict(1e3 * draw(1, 3)).taps[0, :, 0]  # tanh is at its ends
    assert bool((((taps - 1).abs() < 1e-9).sum(dim=(1, 2)) == 1).all())
    torch.testing.assert_close(taps.sum(dim=(1, 2)), torch.ones(CHANNELS).double())


@pytest.mark.parametrize("value", [-1, 1.5])
def test_an_unfit_offset_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="max_offset"):
        make("din", "vector", max_offset=value)


def test_a_host_without_learned_styles_refuses_them() -> None:
    with pytest.raises(ValueError, match=r"needs a style of kind id, but this host supplies 'vector'"):
        create_modulation("cin", CHANNELS, StyleSpec("vector", 3))
    with pytest.raises(ValueError, match=r"Modulations that fit: cin, stylebank$"):
        create_modulation("adain", CHANNELS, StyleSpec("id", 3))
