"""If this fails, the starganv2-protocol measures in other features than the published code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_images import picture
from torchvision.models import inception_v3

from ganmod.features.vgg import FeatureError
from ganmod.features.weights_file import WeightsFile
from ganmod.io.model_file import ModelFileError
from metrics.features import inception_torchvision
from metrics.features.base import metric_name
from metrics.features.pretrained import load_feature_space

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def test_features_are_the_last_pooling_of_images_resized_by_pillow(tmp_path: Path):
    torch.manual_seed(0)
    network = inception_v3(weights=None, init_weights=False).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):  # as they start, the signal would vanish
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(network.state_dict(), tmp_path / "network.pth")
    space = load_feature_space("inception-torchvision", tmp_path / "network.pth")
    arrays = [picture(i, height=40, width=40) for i in range(2)]
    found = space(torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2))
    inputs = []
    for array in arrays:
        resized = np.array(Image.fromarray(array).resize((299, 299), Image.Resampling.BILINEAR))
        inputs.append((torch.from_numpy(resized).permute(2, 0, 1) / 255 - MEAN) / STD)
    outputs: list[torch.Tensor] = []
    network.avgpool.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    with torch.no_grad():
        network(torch.stack(inputs))
    pooled = outputs[0].flatten(1)
    assert found.shape == (2, 2048)
    assert pooled.std() > 1e-3
    torch.testing.assert_close(found, pooled, rtol=1e-3, atol=1e-3 * pooled.std().item())
    assert space.fingerprint is not None
    assert "299 px bilinear by Pillow" in space.fingerprint
    assert metric_name(space.name) == "fd_inception_torchvision"  # not fid, which is another network's


def test_files_are_checked_by_the_hash_in_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "inception_v3_google-0cc3c7bd.pth"
    with pytest.raises(FeatureError, match=r"Inception-v3 weights not found at .*google-0cc3c7bd\.pth or "):
        load_feature_space("inception-torchvision", tmp_path)
    torch.save({"fc.weight": torch.zeros(3)}, file)
    with pytest.raises(FeatureError, match=r"has SHA-256 .*, expected one beginning 0cc3c7bd"):
        load_feature_space("inception-torchvision", tmp_path)
    known = (WeightsFile("inception_v3_google-0cc3c7bd.pth", ""),)
    monkeypatch.setattr(inception_torchvision, "FILES", known)
    with pytest.raises(ModelFileError, match="do not match Inception3"):
        load_feature_space("inception-torchvision", tmp_path)
