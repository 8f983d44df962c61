"""If this fails, z and labels are mapped, averaged or truncated otherwise than the formulas say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ganmod.stylegan2 import MappingNetwork, normalize_2nd_moment, truncate

ROOT2 = 2**0.5


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_second_moment_is_normalised():
    x = draw(3, 50) * torch.tensor([[0.01], [1.0], [100.0]]).double()
    out = normalize_2nd_moment(x)
    torch.testing.assert_close(out.square().mean(dim=1), torch.ones(3).double(), rtol=1e-3, atol=0)
    torch.testing.assert_close(out, x / (x.pow(2).sum(1, keepdim=True) / 50 + 1e-8).sqrt())
    assert normalize_2nd_moment(torch.zeros(1, 4)).abs().max() == 0


def test_truncation_moves_the_first_ws_towards_the_mean():
    ws, mean = draw(2, 5, 3), draw(3, seed=1)
    expected = ws.clone()
    expected[:, :2] = mean + 0.7 * (ws[:, :2] - mean)
    torch.testing.assert_close(truncate(ws, mean, psi=0.7, cutoff=2), expected)
    torch.testing.assert_close(truncate(ws, mean, psi=0.7), mean + 0.7 * (ws - mean))
    torch.testing.assert_close(truncate(ws, mean, psi=0.0), mean.expand_as(ws))
    torch.testing.assert_close(truncate(ws, mean, psi=0.5, cutoff=0), ws)
    assert truncate(ws, mean, psi=1.0) is ws


@pytest.mark.parametrize("c_dim", [0, 3])
def test_the_mapping_network_equals_the_formulas(c_dim: int):
    torch.manual_seed(0)
    net = MappingNetwork(4, c_dim, 6, num_ws=5, num_layers=3).double()
    for layer in net.layers:
        nn.init.normal_(layer.bias, std=20)  # type: ignore[arg-type]
    z, c = draw(2, 4), torch.eye(3).double()[[2, 0]] if c_dim else None
    x = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    if net.embed is not None:
        y = c @ net.embed.weight.t() / 3**0.5 + net.embed.bias
        x = torch.cat([x, y / (y.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()], dim=1)
    for layer in net.layers:
        x = x @ layer.weight.t() * (0.01 / x.shape[1] ** 0.5) + 0.01 * layer.bias  # type: ignore[operator]
        x = torch.where(x > 0, x, 0.2 * x) * ROOT2
    out = net(z, c)
    assert out.shape == (2, 5, 6)
    torch.testing.assert_close(out, x[:, None].expand(2, 5, 6), rtol=1e-12, atol=1e-12)

    nn.init.normal_(net.w_avg)
    truncated = net(z, c, truncation_psi=0.3, truncation_cutoff=4)
    torch.testing.assert_close(truncated, truncate(out, net.w_avg, psi=0.3, cutoff=4))


def test_w_has_unit_size_at_the_start():
    torch.manual_seed(0)
    net = MappingNetwork(128, 0, 128, num_ws=None, num_layers=8)
    w = net(torch.randn(64, 128))
    # Every layer multiplies the second moment by (1 + 0.2^2) / 2 * gain^2 = 1.04.
    assert w.square().mean().item() == pytest.approx(1.04**8, rel=0.3)


def test_the_mean_w_is_an_exponential_average_and_only_on_request():
    torch.manual_seed(0)
    net = MappingNetwork(4, 0, 3, num_ws=2, w_avg_beta=0.9).double()
    batches = [draw(8, 3, seed=seed) for seed in range(3)]
    expected = torch.zeros(3).double()
    for w in batches:
        net.update_w_avg(w)
        expected = 0.9 * expected + 0.1 * w.mean(dim=0)
    torch.testing.assert_close(net.w_avg, expected)
    before = net.w_avg.clone()
    net.train()(draw(5, 4))
    assert torch.equal(net.w_avg, before)
    assert "w_avg" in net.state_dict()


def test_the_mapping_network_stays_in_float32_under_autocast():
    torch.manual_seed(0)
    net = MappingNetwork(4, 3, 6, num_ws=2)
    z, c = torch.randn(2, 4), torch.eye(3)[:2]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(z.bfloat16().float(), c)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, net(z.bfloat16().float(), c))


def test_a_label_only_mapping_network_takes_no_z():
    net = MappingNetwork(0, 3, 6, num_ws=None, w_avg_beta=None)
    assert net(None, torch.eye(3)).shape == (3, 6)
    with pytest.raises(ValueError, match="keeps no mean w: truncation_psi must be 1"):
        net(None, torch.eye(3), truncation_psi=0.5)
    with pytest.raises(ValueError, match="keeps no mean w: build it with w_avg_beta"):
        net.update_w_avg(torch.zeros(1, 6))


@pytest.mark.parametrize(
    ("z", "c", "message"),
    [
        ([2, 5], [2, 3], r"z is of shape \[2, 5\], expected \[N, 4\]"),
        (None, [2, 3], r"z is missing, expected \[N, 4\]"),
        (
            [2, 4],
            None,
            r"c is missing, expected \[2, 3\] for this conditional network.*F\.one_hot\(classes, 3\)",
        ),
        ([2, 4], [2, 4], r"c is of shape \[2, 4\], expected \[2, 3\]"),
        ([2, 4], [2], r"c is of shape \[2\], expected \[2, 3\]"),
        ([2, 4], [1, 3], r"c is of shape \[1, 3\], expected \[2, 3\]"),
    ],
)
def test_wrong_latents_and_labels_are_explained(z: list[int] | None, c: list[int] | None, message: str):
    net = MappingNetwork(4, 3, 6, num_ws=2)
    with pytest.raises(ValueError, match=message):
        net(None if z is None else torch.zeros(z), None if c is None else torch.zeros(c))


def test_a_label_for_an_unconditional_network_is_refused_unless_empty():
    net = MappingNetwork(4, 0, 6, num_ws=2)
    with pytest.raises(ValueError, match=r"c has shape \[2, 3\], but this network is unconditional"):
        net(torch.zeros(2, 4), torch.zeros(2, 3))
    assert net(torch.zeros(2, 4), torch.zeros(2, 0)).shape == (2, 2, 6)
    with pytest.raises(ValueError, match="z_dim and c_dim are both 0"):
        MappingNetwork(0, 0, 6, num_ws=2)
