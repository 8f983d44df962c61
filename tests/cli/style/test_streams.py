"""If this fails, built-in styles, pipes or --json of `ganmod stylize` give something else than files do."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image
from small_images import folder_of

import style_transfer
from ganmod.cli.options.streams import report_options
from ganmod.io.images import read_image
from style_transfer.procedural_styles import BUILTIN_STYLES, builtin_style


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    folder_of(tmp_path, ["photo.png"], height=48, width=64)
    return tmp_path / "photo.png"


def test_a_builtin_style_is_that_of_its_picture(photo: Path, tmp_path: Path, ganmod_command):
    out = tmp_path / "out.png"
    ended = ganmod_command("stylize", photo, "builtin:dots-plum:0.3", "builtin:woodcut:0.7", "-o", out)
    assert ended.code == 0, ended.err
    assert ended.err == ""
    ended = ganmod_command("stylize", photo, "builtin:dots-plum:3", "builtin:woodcut:7", "-o", out)
    assert "weights, normalised to sum 1: dots-plum.png 0.3, woodcut.png 0.7" in ended.err
    model = style_transfer.load()
    params = [model.predict_style(builtin_style(name)) for name in ("dots-plum", "woodcut")]
    mixture = style_transfer.mixing.mix_params(params, [0.3, 0.7])
    assert np.array_equal(read_image(out), model.apply_params(read_image(photo), mixture))


def test_json_says_nothing_of_what_was_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    @click.command()
    @click.option("-o", "--out", type=Path)
    @report_options
    def nothing(out: Path) -> None:
        raise click.ClickException("nothing could be read")

    with pytest.raises(click.ClickException, match="nothing could be read"):
        nothing(["-o", str(tmp_path / "out.png"), "--json"], standalone_mode=False)
    assert capsys.readouterr().out == ""


def test_json_says_what_was_written(photo: Path, tmp_path: Path, ganmod_command):
    out = tmp_path / "out.png"
    ended = ganmod_command("stylize", photo, "builtin:woodcut", "-o", out, "--json")
    report = json.loads(ended.out)
    assert report["output"] == str(out)
    assert report["size"] == [64, 48]
    assert report["seconds"] > 0
    assert "wrote" in ended.err


def test_an_unknown_name_is_answered_with_the_nearest(photo: Path, ganmod_command):
    ended = ganmod_command("stylize", photo, "builtin:mosaik-azure", "-o", "out.png")
    assert ended.code == 2
    assert "there is no built-in style 'mosaik-azure', did you mean 'mosaic-azure'?" in ended.err
    assert all(builtin_style(name, 32).shape == (32, 32, 3) for name in BUILTIN_STYLES)


def test_a_picture_goes_through_pipes(photo: Path, tmp_path: Path, ganmod_command):
    command = [sys.executable, "-m", "ganmod", "stylize", "-", "builtin:woodcut", "-o", "-"]
    ended = subprocess.run(command, input=photo.read_bytes(), capture_output=True, check=True)
    assert ganmod_command("stylize", photo, "builtin:woodcut", "-o", tmp_path / "out.png").code == 0
    piped = np.asarray(Image.open(io.BytesIO(ended.stdout)))
    assert np.array_equal(piped, read_image(tmp_path / "out.png"))
    ended = subprocess.run(command, input=b"no picture", capture_output=True, check=False)
    assert ended.returncode == 2
    assert b"standard input (10 bytes) is no image, expected a JPEG or PNG" in ended.stderr
