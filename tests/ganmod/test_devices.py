"""If this fails, a command computes on another device than requested, or fails late where there is none."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
import torch

from ganmod.cli.options.checks import check_device
from ganmod.devices import find_device
from ganmod.io.images import write_image


def have(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    """Let torch report `cuda` CUDA GPUs, and an Apple GPU or none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(2, True, "cuda:0"), (1, False, "cuda:0"), (0, True, "mps"), (0, False, "cpu")],
)
def test_auto_is_the_first_of_cuda_mps_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: str
) -> None:
    have(monkeypatch, cuda=cuda, mps=mps)
    assert find_device("auto") == torch.device(expected)


def test_named_devices_are_taken_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, cuda=2, mps=True)
    for name in ("cpu", "mps", "cuda:1"):
        assert find_device(name) == torch.device(name)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_device("cuda") == find_device("auto") == torch.device("cuda:1")
    assert find_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "device cuda: torch sees 0 GPUs here, try auto or cpu"),
        ("cuda:3", "device cuda:3: torch sees 0 GPUs here, try auto or cpu"),
        ("mps", "device mps: torch sees no Apple GPU here, try auto or cpu"),
        ("meta", "device meta: not supported, expected auto, cpu, cuda, cuda:N or mps"),
        ("gpu", "device gpu: no such device, expected auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    have(monkeypatch)
    with pytest.raises(ValueError, match=message):
        find_device(name)
    with pytest.raises(click.UsageError, match=f"--{message}"):
        check_device(name)


def test_stylize_and_translate_take_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ganmod_command
) -> None:
    from ganmod.cli.gan import translate
    from ganmod.cli.style import stylize

    for command in (stylize.stylize, translate.translate_command):
        (option,) = (parameter for parameter in command.params if parameter.name == "device")
        assert option.default == "auto"
    asked: list[str] = []

    def find(name: str) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    monkeypatch.setattr(stylize, "find_device", find)
    picture = tmp_path / "a.png"
    write_image(picture, np.full((32, 32, 3), 99, np.uint8))
    assert ganmod_command("stylize", picture, picture, "-o", tmp_path / "o.png").code == 0
    assert ganmod_command("stylize", picture, picture, "-o", tmp_path / "o.png", "--device", "cpu").code == 0
    assert asked == ["auto", "cpu"]
