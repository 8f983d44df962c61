"""A tiny model as the files of ganmod-lite, and its command run in this process."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from command_checks import Ended
from smooth_picture import smooth
from tiny_style_model import tiny

from ganmod_lite.cli import main
from style_transfer import StyleTransferModel
from style_transfer.procedural_styles import draw_style

STYLES = ("dots", "mosaic", "stripes")


class LiteModel(NamedTuple):
    """A model in PyTorch, and the folder of its files for ganmod-lite."""

    network: StyleTransferModel
    folder: Path


@pytest.fixture(scope="session")
def lite_model(tmp_path_factory: pytest.TempPathFactory) -> LiteModel:
    """A tiny model with three built-in styles; skips the test where a package is missing."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs the package {name}: pip install 'ganmod[export]'")
    from make_model import write_model

    network, folder = tiny("residual"), tmp_path_factory.mktemp("lite")
    network.calibrate()
    write_model(network, folder, {name: draw_style(name, 64) for name in STYLES})
    return LiteModel(network, folder)


@pytest.fixture
def lite_command(lite_model: LiteModel, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Ended]:
    """Run `ganmod-lite ARGUMENTS... --model TINY`; standard output is decoded as Latin-1."""

    def run(*arguments: object, model: bool = True) -> Ended:
        capfdbinary.readouterr()
        chosen = ["--model", str(lite_model.folder)] if model else []
        code = main([*map(str, arguments), *chosen])
        out, err = capfdbinary.readouterr()
        return Ended(code, out.decode("latin-1"), err.decode())

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with photo.png (75 x 53), a.png and b.png (styles)."""
    from ganmod.io.images import write_image

    write_image(tmp_path / "photo.png", smooth(53, 75))
    write_image(tmp_path / "a.png", draw_style("dots", 90)[:70])
    write_image(tmp_path / "b.png", draw_style("stripes", 64))
    return tmp_path
