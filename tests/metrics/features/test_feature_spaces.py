"""If this fails, distances are measured in another feature space than stated, or with broken weights."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.models import squeezenet1_1

from ganmod.features.vgg import FeatureError, load_features
from ganmod.features.weights_file import WeightsFile
from ganmod.io.model_file import ModelFileError
from ganmod.io.pickles.restricted_unpickle import UnsafePickleError
from metrics.features import pretrained as feature_spaces
from metrics.features.base import (
    NetworkSpace,
    current_metric_name,
    metric_name,
    normalize_imagenet,
    resize_to_unit,
)
from metrics.features.cifar_resnet import CifarResNet, cifar_resnet_from_state
from metrics.features.pretrained import NAMES, load_feature_space

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(num: int = 2, height: int = 40, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (num, 3, height, width), generator=generator).to(torch.uint8)


def resize_with_pillow(x: Tensor, size: int) -> Tensor:
    """uint8 [N,3,H,W] -> float64 [N,3,size,size] in [0,1], each channel by Pillow in floating point."""
    planes = [
        Image.fromarray(plane.numpy().astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
        for plane in x.flatten(0, 1)
    ]
    stacked = torch.from_numpy(np.stack([np.asarray(plane, dtype=np.float64) for plane in planes]))
    return stacked.view(len(x), 3, size, size).clamp(0, 255) / 255


def normalize(x: Tensor) -> Tensor:
    return (x - x.new_tensor(MEAN)[:, None, None]) / x.new_tensor(STD)[:, None, None]


@pytest.fixture(scope="module")
def squeezenet_state() -> dict[str, Tensor]:
    """A full SqueezeNet 1.1, random."""
    torch.manual_seed(0)
    return squeezenet1_1(weights=None).state_dict()


def random_cifar_state(depth: int) -> dict[str, Tensor]:
    """Random weights and normalisation statistics that keep every channel active."""
    generator = torch.Generator().manual_seed(depth)
    state = {}
    for key, value in CifarResNet(depth).state_dict().items():
        draw = torch.rand(value.shape, generator=generator)
        if value.ndim == 4:
            state[key] = (draw - 0.5) * (12 / value[0].numel()) ** 0.5
        elif "bn" in key and key.endswith(("weight", "running_var")):
            state[key] = draw + 0.5
        elif value.is_floating_point():
            state[key] = (draw - 0.5) * 0.2
    return state  # without counters of batches, as the published file


def cifar_reference(state: Mapping[str, Tensor], x: Tensor, depth: int) -> Tensor:
    """He et al. 2016, section 4.2, written out in float64: normalised [N,3,32,32] -> pooled [N,64]."""
    s = {key: value.double() for key, value in state.items()}

    def conv_bn(x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        y = F.conv2d(x, s[f"{conv}.weight"], stride=stride, padding=1)
        mean, var, weight, bias = (
            s[f"{bn}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * weight + bias

    x = conv_bn(x, "conv1", "bn1").relu()
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = conv_bn(x, f"{name}.conv1", f"{name}.bn1", stride).relu()
            y = conv_bn(y, f"{name}.conv2", f"{name}.bn2")
            if stride == 2:
                zeros = torch.zeros_like(x[:, : x.shape[1] // 2, ::2, ::2])
                x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], dim=1)
            x = (x + y).relu()
    return x.sum(dim=(2, 3)) / 64  # 8 x 8 pixels are left


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 224), (40, 100, 32), (7, 300, 64)])
def test_resizing_is_pillows_antialiased_bicubic(height: int, width: int, size: int):
    x = images(2, height, width)
    torch.testing.assert_close(
        resize_to_unit(x, size).double(), resize_with_pillow(x, size), rtol=0, atol=1e-5
    )


def test_images_of_the_right_size_are_only_scaled():
    x = images(1, 32, 32)
    assert torch.equal(resize_to_unit(x, 32), x.float() / 255)


def test_squeezenet_is_the_average_of_torchvisions_last_feature_map(
    squeezenet_state: dict[str, Tensor], tmp_path: Path
):
    torch.save(squeezenet_state, tmp_path / "weights.pth")
    space = load_feature_space("squeezenet1_1", tmp_path / "weights.pth")
    assert (space.name, space.dim, metric_name(space.name)) == ("squeezenet1_1", 512, "fd_squeezenet1_1")
    network = squeezenet1_1(weights=None).double().eval()
    network.load_state_dict(squeezenet_state)
    with torch.no_grad():
        expected = network.features(normalize(resize_with_pillow(images(), 224))).mean(dim=(2, 3))
    found = space(images())
    assert found.dtype == torch.float32
    assert expected.abs().max() > 1e-3
    scale = expected.abs().max().item()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * scale)


def test_every_form_of_the_weights_gives_the_same(squeezenet_state: dict[str, Tensor], tmp_path: Path):
    alone = {k.removeprefix("features."): v for k, v in squeezenet_state.items() if "features" in k}
    prefixed = {k: v for k, v in squeezenet_state.items() if "features" in k}
    torch.save(squeezenet_state, tmp_path / "full.pth")
    torch.save(alone, tmp_path / "alone.pth")
    torch.save({"state_dict": prefixed, "epoch": 3}, tmp_path / "checkpoint.pth")
    safetensors.torch.save_file(prefixed, tmp_path / "weights.safetensors")
    x = images(1)
    files = ("full.pth", "alone.pth", "checkpoint.pth", "weights.safetensors")
    spaces = [load_feature_space("squeezenet1_1", tmp_path / file) for file in files]
    expected = spaces[0](x)
    assert all(torch.equal(space(x), expected) for space in spaces[1:])
    digest = hashlib.sha256((tmp_path / "alone.pth").read_bytes()).hexdigest()
    assert spaces[1].fingerprint == (
        f"squeezenet1_1, 224 px bicubic antialiased, last map averaged, weights sha256 {digest}"
    )
    assert len({space.fingerprint for space in spaces}) == len(files)


def test_cifar_resnet56_equals_the_architecture_written_out(tmp_path: Path):
    state = random_cifar_state(56)
    saved = {"state_dict": {f"module.{k}": v for k, v in state.items()}, "best_prec1": 93.62}
    torch.save(saved, tmp_path / "weights.th")
    space = load_feature_space("cifar-resnet56", tmp_path / "weights.th")
    assert (space.dim, metric_name(space.name)) == (64, "fd_cifar_resnet56")
    for x in (images(2, 32, 32), images(2, 48, 40)):
        expected = cifar_reference(state, normalize(resize_with_pillow(x, 32)), 56)
        assert expected.std() > 1e-3
        scale = expected.abs().max().item()
        torch.testing.assert_close(space(x).double(), expected, rtol=1e-4, atol=1e-4 * scale)


def test_the_linear_layer_classifies_the_pooled_features():
    state = random_cifar_state(20)
    network = cifar_resnet_from_state(state, source="test", depth=20)
    x = normalize_imagenet(images(2, 32, 32) / 255)
    expected = (
        cifar_reference(state, x.double(), 20) @ state["linear.weight"].double().T + state["linear.bias"]
    )
    torch.testing.assert_close(network(x).double(), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"depth is 21, expected 6n \+ 2"):
        CifarResNet(21)


def test_vgg_spaces_average_relu4_1():
    space = load_feature_space("ganmod-slim")
    assert (space.dim, metric_name(space.name)) == (128, "fd_ganmod_slim")
    expected = load_features("ganmod-slim")(resize_to_unit(images(), 224))["relu4_1"].mean(dim=(2, 3))
    torch.testing.assert_close(space(images()), expected, rtol=1e-5, atol=1e-5)


def test_images_of_a_batch_do_not_affect_each_other_and_nothing_is_trained():
    space = load_feature_space("ganmod-slim")
    torch.testing.assert_close(space(images(3))[1:2], space(images(3)[1:2]), rtol=1e-4, atol=1e-5)
    assert isinstance(space, NetworkSpace)
    assert not space.network.training
    assert not any(parameter.requires_grad for parameter in space.network.parameters())
    assert not space(images(1)).requires_grad


def test_a_training_loops_autocast_does_not_reach_the_features():
    space = load_feature_space("ganmod-slim")
    expected = space(images(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = space(images(1))
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.rand(1, 3, 8, 8),
        torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(0, 3, 8, 8, dtype=torch.uint8),
    ],
    ids=["float", "grey", "unbatched", "empty"],
)
def test_only_uint8_rgb_is_taken(wrong: Tensor):
    with pytest.raises(ValueError, match=r"got torch\.\w+ \[.*\], expected uint8 \[N,3,H,W\] in 0\.\.255"):
        load_feature_space("ganmod-slim")(wrong)


@pytest.mark.parametrize(
    ("name", "file", "digits"),
    [
        ("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", "b8a52dc0"),
        ("cifar-resnet56", "resnet56-4bfd9763.th", "4bfd9763"),
        ("vgg19", "vgg19-dcbb9e9d.pth", "dcbb9e9d"),
    ],
)
def test_missing_weights_are_named_with_hash_places_and_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, digits: str
):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cache, folder, elsewhere = tmp_path / "checkpoints", tmp_path / "weights", tmp_path / "else.pth"
    folder.mkdir()
    for path, location in ((None, cache / file), (folder, folder / file), (elsewhere, elsewhere)):
        with pytest.raises(FeatureError) as error:
            load_feature_space(name, path)
        message = str(error.value)
        for part in (str(location), str(cache), file, "SHA-256", digits, "--feature-weights PATH"):
            assert part in message


def test_vgg19_slim_has_no_default_place():
    with pytest.raises(FeatureError, match=r"4SE\.pth.*--feature-weights PATH"):
        load_feature_space("vgg19-slim")


def test_published_names_are_found_in_a_folder_and_in_torchs_cache_and_their_hash_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeezenet_state: dict[str, Tensor]
):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    file.parent.mkdir()
    torch.save(squeezenet_state, file)
    for path in (None, file.parent, file):
        with pytest.raises(FeatureError, match=r"has SHA-256 \w{64}, expected one beginning b8a52dc0"):
            load_feature_space("squeezenet1_1", path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = feature_spaces.PRETRAINED["squeezenet1_1"]
    known = entry._replace(files=(WeightsFile(file.name, digest[:8]),))
    monkeypatch.setitem(feature_spaces.PRETRAINED, "squeezenet1_1", known)
    found = [load_feature_space("squeezenet1_1", path)(images(1)) for path in (None, file.parent, file)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_other_damaged_and_hostile_files_are_refused(tmp_path: Path, squeezenet_state: dict[str, Tensor]):
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was-run",))

    torch.save(random_cifar_state(20), tmp_path / "other.pth")
    for name in ("squeezenet1_1", "cifar-resnet56"):
        with pytest.raises(ModelFileError, match=r"other\.pth: its tensors do not match"):
            load_feature_space(name, tmp_path / "other.pth")
    for content in ([1, 2], {1: torch.ones(2)}, {"a": 1}):
        torch.save(content, tmp_path / "list.pth")
        with pytest.raises(FeatureError, match=r"list\.pth holds no state dict"):
            load_feature_space("squeezenet1_1", tmp_path / "list.pth")
    torch.save({"weights": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(UnsafePickleError, match=r"hostile\.pth: asks for"):
        load_feature_space("cifar-resnet56", tmp_path / "hostile.pth")
    assert not (tmp_path / "was-run").exists()
    (tmp_path / "short.safetensors").write_bytes(safetensors.torch.save(squeezenet_state)[:1000])
    with pytest.raises(FeatureError, match=r"short\.safetensors is damaged"):
        load_feature_space("squeezenet1_1", tmp_path / "short.safetensors")


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list():
    with pytest.raises(ValueError, match=r"'squeezenet', did you mean 'squeezenet1_1'\?") as error:
        load_feature_space("squeezenet")
    assert all(name in str(error.value) for name in NAMES)


PLUGIN = """
import torch

calls = []

def brightness(images):
    calls.append(images.shape)
    return images.double().mean(dim=(2, 3))

class Declared:
    dim, fingerprint = 3, "brightness 1"

    def __call__(self, images):
        return brightness(images)

def flat(images):
    return images.float().mean(dim=(1, 2, 3))

def integers(images):
    return images[:, :, 0, 0]

constant = 5
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_feature_space.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_feature_space", raising=False)
    return "own_feature_space"


def test_a_users_own_function_or_class_is_a_space(plugin: str):
    expected = (images().double().mean(dim=(2, 3))).float()
    for attribute, fingerprint in (("brightness", None), ("Declared", "brightness 1")):
        space = load_feature_space(f"{plugin}:{attribute}")
        assert (space.dim, space.fingerprint) == (3, fingerprint)
        assert torch.equal(space(images()), expected)
        assert space(images()).dtype == torch.float32
    assert metric_name(space.name) == "fd_own_feature_space_Declared"


def test_what_is_wrong_with_a_users_own_is_said(plugin: str):
    for attribute, message in (
        ("flat", r"returned torch\.float32 \[2\], expected a float tensor \[2, dim\]"),
        ("integers", r"returned torch\.uint8 \[2, 3\], expected a float tensor"),
        ("constant", "is of type int, expected a function"),
        ("nothing", "own_feature_space has no 'nothing'"),
    ):
        with pytest.raises(ValueError, match=message):
            load_feature_space(f"{plugin}:{attribute}")
    with pytest.raises(ValueError, match="no module named 'not_there'"):
        load_feature_space("not_there:brightness")
    with pytest.raises(ValueError, match=r"loads its own weights: leave out the path w\.pth"):
        load_feature_space(f"{plugin}:brightness", "w.pth")


def test_only_inceptions_distance_is_named_fid():
    named = [metric_name("inception", metric) for metric in ("fd", "kd", "kd_std", "precision")]
    assert named == ["fid", "kid", "kid_std", "precision"]
    others = [name for name in NAMES if name != "inception"]
    for name in [*others, "mine:inception"]:
        assert metric_name(name).startswith("fd_")
        assert metric_name(name, "kd").startswith("kd_")
    assert metric_name("dinov2", "precision") == "precision_dinov2"


def test_former_names_of_kernel_distances_are_read():
    former = ["kid", "kid_std", "kid_dinov2", "kid_std_dinov2", "fd_dinov2", "seconds"]
    assert [current_metric_name(name) for name in former] == [
        *("kid", "kid_std", "kd_dinov2", "kd_std_dinov2", "fd_dinov2", "seconds"),
    ]
