"""If this fails, LPIPS figures are not the published measure, or a missing package or file is unexplained."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import alexnet, squeezenet1_1
from torchvision.models.vgg import cfgs, make_layers

from metrics.images.lpips import LpipsDistance, LpipsError, load_lpips

lpips = pytest.importorskip("lpips")

HEADS = Path(lpips.__file__).parent / "weights/v0.1"
TAPS = (1, 4, 7, 9, 10, 11, 12)
SHIFT = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
SCALE = torch.tensor([0.458, 0.448, 0.450])[:, None, None]


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return squeezenet1_1(weights=None).features.eval()


@pytest.fixture(scope="module")
def distance(backbone):
    return LpipsDistance(backbone.state_dict())


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 2, 3, 48, 40, generator=torch.Generator().manual_seed(1))


def reference_lpips(backbone, a, b, heads_file="squeeze.pth", taps=TAPS):
    """Zhang et al. 2018, Eq. 1, with the package's heads: sum over taps of mean_hw w . (a_hat - b_hat)^2."""
    heads = torch.load(HEADS / heads_file, map_location="cpu", weights_only=True)
    total = torch.zeros(len(a), dtype=torch.float64)
    x, y = ((2 * i - 1 - SHIFT) / SCALE for i in (a, b))
    for number, layer in enumerate(backbone):
        x, y = layer(x), layer(y)
        if number in taps:
            weight = heads[f"lin{taps.index(number)}.model.1.weight"].double()
            difference = F.normalize(x.double(), dim=1) - F.normalize(y.double(), dim=1)
            total += F.conv2d(difference.square(), weight).mean(dim=(1, 2, 3))
    return total


def test_equals_the_formula_written_out(backbone, distance, images):
    with torch.no_grad():
        expected = reference_lpips(backbone, *images)
    assert expected.min() > 1e-3  # random weights still distinguish the images
    torch.testing.assert_close(distance(*images).double(), expected, rtol=1e-4, atol=1e-7)


def test_identical_images_are_at_zero_and_order_does_not_matter(distance, images):
    a, b = images
    assert distance(a, a).tolist() == [0, 0]
    torch.testing.assert_close(distance(a, b), distance(b, a))


def test_images_of_a_batch_do_not_affect_each_other(distance, images):
    a, b = images
    torch.testing.assert_close(distance(a, b)[1:], distance(a[1:], b[1:]))


def test_is_frozen_but_differentiable_in_the_images(distance, images):
    assert not any(p.requires_grad for p in distance.parameters())
    assert not distance.model.training
    a = images[0].clone().requires_grad_()
    distance(a, images[1]).sum().backward()
    assert a.grad.abs().sum() > 0


def test_diversity_is_the_mean_over_all_pairs(distance, images):
    several = torch.cat([*images, 1 - images[0]]).unflatten(0, (2, 3))  # [2,3,3,48,40]
    pairs = [distance(several[:, a], several[:, b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(distance.diversity(several), sum(pairs) / 3, rtol=1e-4, atol=1e-7)
    assert distance.diversity(several[:, :1].expand(-1, 4, -1, -1, -1)).abs().max() < 1e-6
    with pytest.raises(ValueError, match=r"got images \[2, 1, 3, 48, 40\], expected \[N, K, 3, H, W\]"):
        distance.diversity(several[:, :1])


def test_alexnet_is_the_formula_written_out_too(images, tmp_path):
    torch.manual_seed(0)
    backbone = alexnet(weights=None).features.eval()
    torch.save(backbone.state_dict(), tmp_path / "alexnet.pth")
    distance = load_lpips(tmp_path / "alexnet.pth", network="alex")
    with torch.no_grad():
        expected = reference_lpips(backbone[:12], *images, heads_file="alex.pth", taps=(1, 4, 7, 9, 11))
    assert expected.min() > 1e-6
    torch.testing.assert_close(distance(*images).double(), expected, rtol=1e-4, atol=1e-9)
    with pytest.raises(LpipsError, match=r"AlexNet weights for LPIPS not found .* alexnet-owt-7be5be79\.pth"):
        load_lpips(tmp_path / "nowhere.pth", network="alex")


def test_vgg_is_the_formula_written_out_too(images):
    """Taps after the last ReLU of each of five stages, as path lengths are published with."""
    torch.manual_seed(0)
    backbone = make_layers(cfgs["D"], batch_norm=False).eval()
    distance = LpipsDistance(backbone.state_dict(), network="vgg")
    with torch.no_grad():
        expected = reference_lpips(backbone, *images, heads_file="vgg.pth", taps=(3, 8, 15, 22, 29))
    assert expected.min() > 1e-6
    torch.testing.assert_close(distance(*images).double(), expected, rtol=1e-4, atol=1e-9)


def test_whole_network_and_features_alone_give_the_same(backbone, distance, images, tmp_path):
    network = squeezenet1_1(weights=None)
    network.features.load_state_dict(backbone.state_dict())
    torch.save(network.state_dict(), tmp_path / "squeezenet.pth")
    assert load_lpips(tmp_path / "squeezenet.pth")(*images).tolist() == distance(*images).tolist()


def test_construction_is_quiet(backbone, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LpipsDistance(backbone.state_dict())
    assert capsys.readouterr().out == ""


def test_errors_name_the_file_the_package_and_the_shape(distance, images, tmp_path, monkeypatch):
    with pytest.raises(LpipsError, match=r"nowhere\.pth.*--lpips-weights"):
        load_lpips(tmp_path / "nowhere.pth")
    torch.save({"0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(LpipsError, match=r"other\.pth.*SqueezeNet 1\.1"):
        load_lpips(tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"\[2, 3, 48, 40\] and \[2, 3, 48, 39\]"):
        distance(images[0], images[1][..., :39])
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(LpipsError, match=r"pip install 'ganmod\[metrics\]'"):
        LpipsDistance({})
