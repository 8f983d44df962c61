"""If this fails, a command answers a wrong file or option with a traceback or half a result."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from command_checks import assert_fails
from tiny_generator import tiny_generator

import style_transfer
from ganmod.io.images import write_image
from ganmod.stylegan2.stylegan2_file import save_stylegan2


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generators, the shipped style model, a square picture, and files that are none of these."""
    folder = tmp_path_factory.mktemp("inputs")
    save_stylegan2(folder / "plain.safetensors", G_ema=tiny_generator())
    classes = {"c_dim": 3, "img_resolution": 8, "channel_base": 32}
    names = ("cat", "dog", "1")
    save_stylegan2(folder / "classes.safetensors", G_ema=tiny_generator(**classes), class_names=names)
    (folder / "style.safetensors").symlink_to(style_transfer.model.SHIPPED_MODEL)
    (folder / "noise.bin").write_bytes(bytes(range(100)))
    (folder / "text.png").write_text("no picture at all, but long enough")
    write_image(folder / "square.png", np.zeros((20, 20, 3), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("generate noise.bin --seeds 0 -o out", 1, "is not a safetensors file"),
        ("generate style.safetensors --seeds 0 -o out", 1, "load it with style_transfer.load"),
        ("generate plain.safetensors --seeds 0 --class 1 -o out", 2, "the model is unconditional"),
        (
            "generate classes.safetensors --seeds 0 -o out",
            2,
            "no class is given: choose one of 0 to 2 (0 cat",
        ),
        ("generate classes.safetensors --seeds 0 --class bird -o out", 2, "unknown class 'bird'"),
        ("generate classes.safetensors --seeds 0 --class 3 -o out", 2, "unknown class '3'"),
        ("generate plain.safetensors --seeds 5-3 -o out", 2, "write 3-5"),
        ("generate plain.safetensors --seeds a -o out", 2, "'a' is no list of numbers"),
        ("generate plain.safetensors --style-mix 0 1 4-6 -o out.png", 2, "layer 6 is out of range"),
        ("generate plain.safetensors --style-mix 0 1 2 -o out", 2, "no image suffix"),
        ("generate plain.safetensors --interpolate 3 -o out", 2, "two or more"),
        ("generate plain.safetensors --interpolate 0-1 -o out.avi", 2, "expected the suffix .mp4, .gif"),
        ("generate plain.safetensors --seeds 0 --cutoff 7 -o out", 2, "expected 0 to 6"),
        ("generate plain.safetensors --seeds 0", 2, "give --out DIR or --grid FILE"),
        ("generate plain.safetensors --seeds 0 -o out.png", 2, "one picture of all is --grid"),
        ("generate plain.safetensors -o out", 2, "got none"),
        ("generate plain.safetensors --seeds 0 --interpolate 0-1 -o out", 2, "got --seeds and --interpolate"),
        ("generate plain.safetensors --seeds 0 --device tpu9 -o out", 2, "--device tpu9"),
        (
            "project plain.safetensors square.png -o out",
            1,
            "square.png: the image is 20 x 20 (width x height)",
        ),
        ("project plain.safetensors text.png -o out", 1, "cannot read image text.png"),
        ("project text.png square.png -o out", 1, "is not a safetensors file"),
        ("project plain.safetensors square.png -o out --class 2", 2, "the model is unconditional"),
        (
            "project plain.safetensors square.png -o out --crop --features vgg20",
            1,
            "feature network 'vgg20' has no maps",
        ),
        ("project plain.safetensors square.png -o out --crop --features vgg19-slim", 1, "--feature-weights"),
        ("export noise.bin --format pt2 -o out", 1, "is not a safetensors file"),
        ("export style.safetensors -o out.pt2", 2, "and without it a folder"),
        (
            "export style.safetensors --format pt2 --style square.png -o out",
            2,
            "is one file, NAME.onnx or NAME.pt2",
        ),
        ("export style.safetensors --format pt2 --stages -o out", 2, "leave out --style and --format pt2"),
        ("export style.safetensors --format pt2 --padding zero -o out", 2, "are for --style: give a style"),
        (
            "export classes.safetensors --style square.png -o out.pt2",
            2,
            "of kind stylegan2, not a style model",
        ),
        ("export classes.safetensors -o out.pt2", 2, "no class is given"),
        ("export classes.safetensors --class 3 -o out.pt2", 2, "unknown class '3': expected one of 0 to 2"),
        ("export classes.safetensors --class 0 --cutoff 5 -o out.pt2", 2, "expected 0 to 4"),
        ("export classes.safetensors --format pt2 --class 0 -o out", 2, "class and truncation are inputs of"),
        ("export classes.safetensors --format tflite -o out", 2, "'tflite'"),
        ("export classes.safetensors --format onnx --class 0 -o out", 1, "pip install 'ganmod[export]'"),
    ],
)
def test_bad_input_is_one_message(
    inputs: Path, arguments: str, code: int, message: str, ganmod_command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    monkeypatch.chdir(inputs)
    assert_fails(ganmod_command(*arguments.split()), code, message)
    assert not list(inputs.glob("out*"))
