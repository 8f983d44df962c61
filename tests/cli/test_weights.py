"""If this fails, `ganmod weights` states a file wrongly, or where it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ganmod.features.vgg import GANMOD_SLIM_FILE
from metrics.features.inception import PUBLISHED
from metrics.features.known_files import IMAGENET_TERMS, TORCHVISION_URL, known_files, spaces_at_hand
from metrics.features.pretrained import NAMES


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches without files."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("GANMOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GANMOD_INCEPTION", raising=False)
    return tmp_path


def test_files_are_listed_with_hash_terms_and_place(home: Path, ganmod_command) -> None:
    ended = ganmod_command("weights", "--json")
    files = {file["name"]: file for file in json.loads(ended.out)}
    assert ended.code == 0
    digest = hashlib.sha256(GANMOD_SLIM_FILE.read_bytes()).hexdigest()
    slim, inception = files[GANMOD_SLIM_FILE.name], files[PUBLISHED.name]
    assert (slim["found"], slim["sha256"], slim["size"]) == (str(GANMOD_SLIM_FILE), digest, "0.4 MiB")
    assert (inception["found"], inception["sha256"]) == (None, PUBLISHED.sha256)
    assert inception["places"] == [str(home / "cache" / PUBLISHED.name)]
    spaces = {file["space"] for file in files.values()} - {""}
    assert spaces == set(NAMES) - {"dinov2", "vgg19-slim", "vgg19-slim-aux"}  # have no default place
    assert all(file["terms"] and file["source"] and file["purpose"] for file in files.values())

    lines = ganmod_command("weights").out
    assert f"{GANMOD_SLIM_FILE.name}: there" in lines
    assert f"{PUBLISHED.name}: not found" in lines
    assert f"SHA-256   {PUBLISHED.sha256}" in lines
    assert f"place     {home / 'cache' / PUBLISHED.name}; or --feature-weights" in lines


def test_a_file_in_its_place_brings_its_space(home: Path) -> None:
    assert spaces_at_hand() == ["ganmod-slim"]
    checkpoints = home / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in ("resnet56-4bfd9763.th", "inception_v3_google-1a9a5a14.pth"):
        (checkpoints / name).touch()
    assert spaces_at_hand() == ["cifar-resnet56", "inception-torchvision", "ganmod-slim"]


def test_addresses_and_sizes_are_those_that_torchvision_states() -> None:
    from torchvision.models import (
        AlexNet_Weights,
        Inception_V3_Weights,
        SqueezeNet1_1_Weights,
        VGG16_Weights,
        VGG19_Weights,
    )

    files = {file.source: file for file in known_files() if file.terms == IMAGENET_TERMS}
    for published in (
        AlexNet_Weights,
        Inception_V3_Weights,
        SqueezeNet1_1_Weights,
        VGG16_Weights,
        VGG19_Weights,
    ):
        weights = published.IMAGENET1K_V1
        file = files[weights.url]
        assert file.source == TORCHVISION_URL + file.name
        assert float(file.size.removesuffix(" MiB")) == pytest.approx(weights.meta["_file_size"], abs=0.1)
        assert file.name.split("-")[-1].removesuffix(".pth") == file.sha256[:8]
