"""If this fails, FID is not clean-fid's, or an unchecked file is run."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from cleanfid import fid as cleanfid
from cleanfid.inception_torchscript import InceptionV3W
from small_images import folder_of
from small_inception import write_inception
from torch import Tensor, nn

from ganmod.features.vgg import FeatureError
from ganmod.io.images import read_image
from metrics.features import inception
from metrics.features.base import NetworkSpace
from metrics.features.dinov2 import DINOv2Features
from metrics.features.inception import InceptionFile, load_inception
from metrics.features.pretrained import load_feature_space


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, InceptionFile]:
    """A folder with the stand-in, and its description."""
    folder = tmp_path_factory.mktemp("weights")
    return folder, write_inception(folder)


@pytest.fixture
def stand_in(weights: tuple[Path, InceptionFile], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Accept the stand-in as the published file, without environment variables."""
    monkeypatch.setattr(inception, "PUBLISHED", weights[1])
    monkeypatch.delenv("GANMOD_INCEPTION", raising=False)
    return weights[0]


def image_batch(path: Path) -> Tensor:
    return torch.from_numpy(read_image(path)).permute(2, 0, 1)[None]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_features_are_clean_fids_of_the_same_files(weights: tuple[Path, InceptionFile], tmp_path: Path):
    folder, expected = weights
    names = [f"{i}.png" for i in range(6)]
    folder_of(tmp_path / "small", names[:3], height=24, width=40)
    folder_of(tmp_path / "large", names[:2], height=400, width=310)
    space = load_inception(folder, expected=expected)
    for part in ("small", "large"):
        theirs = cleanfid.get_folder_features(
            str(tmp_path / part),
            InceptionV3W(str(folder), download=False),
            num_workers=0,
            batch_size=2,
            device=torch.device("cpu"),
            mode="clean",
            verbose=False,
        )
        ours = torch.cat([space(image_batch(path)) for path in sorted((tmp_path / part).iterdir())])
        assert ours.dtype == torch.float32
        assert np.abs(theirs).max() > 0.1
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-5)


def test_batches_and_a_training_loops_autocast_change_nothing(weights: tuple[Path, InceptionFile]):
    space = load_inception(weights[0], expected=weights[1])
    images = torch.randint(256, (19, 3, 20, 30), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    features = space(images)
    assert features.shape == (19, 2048)
    torch.testing.assert_close(torch.cat([space(part) for part in images.split(3)]), features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(space(images), features)
    for wrong in (images.float() / 127.5 - 1, images[:, :1], images[0]):
        with pytest.raises(ValueError, match=r"expected uint8 \[N,3,H,W\] in 0\.\.255"):
            space(wrong)


def test_the_file_is_found_by_option_environment_and_cache_folder(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = stand_in / "inception-2015-12-05.pt"
    assert load_feature_space("inception", file).dim == 2048
    space = load_feature_space("inception", stand_in)
    assert (space.name, space.fingerprint.split(" sha256 ")[1]) == ("inception", inception.PUBLISHED.sha256)
    assert "299 px bicubic by clean-fid" in space.fingerprint
    for path in (file, stand_in):
        monkeypatch.setenv("GANMOD_INCEPTION", str(path))
        assert load_feature_space("inception").fingerprint == space.fingerprint
    monkeypatch.delenv("GANMOD_INCEPTION")
    monkeypatch.setenv("GANMOD_CACHE", str(tmp_path))
    (tmp_path / file.name).write_bytes(file.read_bytes())
    assert load_feature_space("inception").fingerprint == space.fingerprint


def test_a_missing_file_is_named_with_size_hash_places_and_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("GANMOD_INCEPTION", raising=False)
    monkeypatch.setenv("GANMOD_CACHE", str(tmp_path / "cache"))
    digest = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
    everywhere = ("inception-2015-12-05.pt", "95,607,719 bytes", digest, "--feature-weights PATH")
    everywhere += ("$GANMOD_INCEPTION", str(tmp_path / "cache"), "https://nvlabs-fi-cdn.nvidia.com/")
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_: pytest.fail("it went to the network"))
    before = set(Path("/tmp").glob("inception*")) if os.name == "posix" else set()
    for path, environment, location in (
        (None, None, tmp_path / "cache" / "inception-2015-12-05.pt"),
        (tmp_path, None, tmp_path / "inception-2015-12-05.pt"),
        (tmp_path / "mine.pt", None, tmp_path / "mine.pt"),
        (None, tmp_path / "set.pt", tmp_path / "set.pt"),
    ):
        if environment:
            monkeypatch.setenv("GANMOD_INCEPTION", str(environment))
        start = time.monotonic()
        with pytest.raises(FeatureError) as error:
            load_feature_space("inception", path)
        assert time.monotonic() - start < 2
        assert all(part in str(error.value) for part in (*everywhere, str(location)))
    assert not (tmp_path / "cache").exists()
    assert before == (set(Path("/tmp").glob("inception*")) if os.name == "posix" else set())


def test_another_file_is_refused_before_anything_in_it_is_run(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was run"))
    file = tmp_path / "inception-2015-12-05.pt"
    data = (stand_in / file.name).read_bytes()
    for damaged in (data[:-100], bytes([*data[:500], data[500] ^ 1, *data[501:]]), b""):
        file.write_bytes(damaged)
        with pytest.raises(FeatureError, match=rf"has {len(damaged):,} bytes and SHA-256 .*, expected"):
            load_feature_space("inception", file)


def test_a_file_of_the_right_hash_that_is_no_network_is_one_message(tmp_path: Path):
    with pytest.raises(FeatureError, match="no TorchScript file"):
        inception.run_torchscript(b"PK\x03\x04 cut", source=tmp_path / "x.pt")


class SmallTransformer(nn.Module):
    """The used part of timm's model."""

    def __init__(self, pretrained: bool, num_classes: int, img_size: int) -> None:
        super().__init__()
        assert (pretrained, num_classes, img_size) == (False, 0, 224)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 384))
        self.scale = nn.Parameter(torch.zeros(384, 3))

    def forward_features(self, x: Tensor) -> Tensor:
        token = self.cls_token[:, 0] + x.mean(dim=(2, 3)) @ self.scale.T
        return torch.stack([token, torch.full_like(token, 7)], dim=1)


def test_dinov2_is_the_class_token_of_timms_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Replaces timm by its three used names."""
    timm, models = ModuleType("timm"), ModuleType("timm.models")
    models.vision_transformer = ModuleType("timm.models.vision_transformer")  # type: ignore[attr-defined]
    transformer = models.vision_transformer
    transformer.vit_small_patch14_dinov2 = SmallTransformer
    transformer.checkpoint_filter_fn = lambda state, model: {
        k: v for k, v in state.items() if k != "mask_token"
    }
    for name, module in (("timm", timm), ("timm.models", models)):
        monkeypatch.setitem(sys.modules, name, module)
    token, scale = torch.randn(1, 1, 384), torch.randn(384, 3)
    state = {"cls_token": token, "scale": scale, "mask_token": torch.zeros(1, 384)}
    torch.save(state, tmp_path / "dinov2_vits14_pretrain.pth")
    space = load_feature_space("dinov2", tmp_path / "dinov2_vits14_pretrain.pth")
    assert isinstance(space, NetworkSpace)
    assert (space.dim, space.size) == (384, 224)
    assert "vit_small_patch14_dinov2 of timm" in (space.fingerprint or "")
    grey = torch.full((2, 3, 10, 10), 100, dtype=torch.uint8)
    colour = (100 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(space(grey), (token[0] + colour @ scale.T).expand(2, -1))
    for wrong, message in (
        ({"cls_token": torch.zeros(1, 1, 5)}, "class token of 5 numbers"),
        ({**state, "register_tokens": torch.zeros(1, 4, 384)}, "without registers"),
        ({"fc.weight": torch.zeros(2, 2)}, "class token of None"),
    ):
        torch.save(wrong, tmp_path / "wrong.pth")
        with pytest.raises(FeatureError, match=message):
            DINOv2Features(tmp_path / "wrong.pth")
    with pytest.raises(FeatureError, match=r"DINOv2 weights not found.*--feature-weights PATH"):
        load_feature_space("dinov2")


def test_dinov2_without_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.models", None)
    with pytest.raises(FeatureError, match=r"pip install 'ganmod\[dino\]'"):
        load_feature_space("dinov2", "any.pth")
