"""If this fails, `ganmod-lite` mistakes its arguments, or ends with a traceback instead of one line."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_checks import Ended, assert_fails
from PIL import Image

from ganmod.io.images import read_image, write_image
from ganmod_lite.cli import make_parser
from ganmod_lite.errors import LiteError, WrongUsage
from ganmod_lite.images import write_image as lite_write
from ganmod_lite.jobs import run
from ganmod_lite.stylizer import Stylizer

Command = Callable[..., Ended]


def fails_in_one_line(ended: Ended, code: int, *words: object) -> None:
    """Check the exit code and a message of one line with all words."""
    assert_fails(ended, code, *words)
    assert ended.err.count("\n") == 1, ended.err
    assert not ended.out


def test_one_picture(pictures: Path, lite_command: Command) -> None:
    ended = lite_command(pictures / "photo.png", pictures / "a.png", "-o", pictures / "out.png")
    assert ended.code == 0, ended.err
    assert f"wrote {pictures / 'out.png'} (75 x 53) in" in ended.out
    assert read_image(pictures / "out.png").shape == (53, 75, 3)


def test_json_says_what_was_made(pictures: Path, lite_command: Command) -> None:
    out = pictures / "out.jpg"
    ended = lite_command(
        *(pictures / "photo.png", f"{pictures / 'a.png'}:3", "builtin:mosaic:1"),
        *("-o", out, "--size", 40, "--json"),
    )
    report = json.loads(ended.out)
    assert (report["output"], report["size"]) == (str(out), [57, 40])
    assert (report["styles"], report["weights"]) == (["a", "mosaic"], [0.75, 0.25])
    assert 0 < report["seconds"] < 600
    assert set(report["versions"]) == {"ganmod-lite", "python", "onnxruntime", "numpy", "pillow"}


def test_folders_give_every_pair_and_report_what_is_left_out(pictures: Path, lite_command: Command) -> None:
    for name in ("photos", "paintings"):
        (pictures / name).mkdir()
    for source, target in (("photo", "photos/x"), ("a", "paintings/a"), ("b", "paintings/b")):
        (pictures / f"{source}.png").rename(pictures / f"{target}.png")
    (pictures / "photos" / "notes.jpg").write_text("no picture")
    out = pictures / "out"
    ended = lite_command(pictures / "photos", pictures / "paintings", "-o", out, "--size", 32)
    assert_fails(ended, 1, "left out", "notes.jpg", "no picture that Pillow knows")
    assert sorted(path.name for path in out.iterdir()) == ["x--a.png", "x--b.png"]
    assert "wrote 2 pictures" in ended.out


def test_standard_input_and_output(
    pictures: Path, lite_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = (pictures / "photo.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(encoded)))
    ended = lite_command("-", pictures / "a.png", "-o", "-")
    assert ended.code == 0
    assert not ended.err
    with Image.open(io.BytesIO(ended.out.encode("latin-1"))) as image:
        assert (image.format, image.size) == ("PNG", (75, 53))
        result = np.array(image)
    lite_command(pictures / "photo.png", pictures / "a.png", "-o", pictures / "out.png")
    assert np.array_equal(read_image(pictures / "out.png"), result)


def test_the_list_and_the_sheet_show_all_built_in_styles(pictures: Path, lite_command: Command) -> None:
    assert lite_command("--list").out.split() == ["dots", "mosaic", "stripes"]
    assert json.loads(lite_command("--list", "--json").out) == {"styles": ["dots", "mosaic", "stripes"]}
    out = pictures / "sheet.png"
    ended = lite_command(pictures / "photo.png", "--sheet", "-o", out, "--size", 48)
    assert ended.code == 0, ended.err
    height, width = read_image(out).shape[:2]
    assert width >= 2 * 68
    assert height >= 2 * 48


def test_quality_is_jpegs(pictures: Path, lite_command: Command) -> None:
    sizes = []
    for quality in (20, 95):
        out = pictures / f"{quality}.jpg"
        lite_command(pictures / "photo.png", "builtin:dots", "-o", out, "--quality", quality)
        sizes.append(out.stat().st_size)
    assert sizes[0] < 0.7 * sizes[1]


def test_tiles_and_threads_change_nothing_else(pictures: Path, lite_command: Command) -> None:
    results = []
    for options in ([], ["--tile", "16"], ["--tile", "24", "--threads", "3"]):
        out = pictures / "out.png"
        assert lite_command(pictures / "photo.png", "builtin:dots", "-o", out, *options).code == 0
        results.append(read_image(out).astype(int))
    assert max(np.abs(result - results[0]).max() for result in results) <= 1


def test_a_name_with_a_colon_is_a_file(pictures: Path, lite_command: Command) -> None:
    (pictures / "a.png").rename(pictures / "odd:name.png")
    out = pictures / "out.png"
    assert lite_command(pictures / "photo.png", pictures / "odd:name.png", "-o", out).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.png", "a.png", "-o", "o.png"], 1, ["no file or folder none.png", "check the name"]),
        (["photo.png", "none.png", "-o", "o.png"], 1, ["no file or folder none.png"]),
        (["photo.png", "none.png:0.5", "-o", "o.png"], 1, ["no file or folder none.png"]),
        (["text.jpg", "a.png", "-o", "o.png"], 1, ["text.jpg", "no picture that Pillow knows", "convert"]),
        (["photo.png", "text.jpg", "-o", "o.png"], 1, ["text.jpg", "no picture that Pillow knows"]),
        (["void.png", "a.png", "-o", "o.png"], 1, ["void.png", "0 bytes"]),
        (["cut.png", "a.png", "-o", "o.png"], 1, ["cut.png", "damaged or cut short"]),
        (["dot.png", "a.png", "-o", "o.png"], 1, ["dot.png is 1 x 1 pixels", "at least 16 x 16"]),
        (["photo.png", "dot.png", "-o", "o.png"], 1, ["dot.png is 1 x 1 pixels"]),
        (["photo.png", "builtin:mosiac", "-o", "o.png"], 1, ["did you mean builtin:mosaic?", "--list"]),
        (["photo.png", "builtin:qqq", "-o", "o.png"], 1, ["no built-in style 'qqq'", "--list"]),
        (["empty", "a.png", "-o", "out"], 1, ["the folder empty holds no picture", ".png"]),
        (["photo.png", "empty", "-o", "out"], 1, ["the folder empty holds no picture"]),
        (["photo.png", "a.png", "-o", "text.jpg/o.png"], 1, ["cannot write text.jpg/o.png"]),
        (["photo.png", "a.png", "-o", "photo.png"], 2, ["photo.png, which is read", "another name"]),
        (["photo.png", "a.png", "-o", "a.png"], 2, ["a.png, which is read"]),
        (["photo.png", "a.png", "-o", "o.xyz"], 2, ["o.xyz", "try o.xyz.png"]),
        (["photo.png", "a.png"], 2, ["no --out", "-o out.png"]),
        (["photo.png", "-o", "o.png"], 2, ["no STYLE", "--list"]),
        (["-o", "o.png"], 2, ["no CONTENT"]),
        (["-", "-", "-o", "o.png"], 2, ["read once"]),
        (["full", "a.png", "-o", "o.png"], 2, ["o.png is named as a file", "folder"]),
        (["full", "a.png", "-o", "full/out"], 2, ["lies inside full"]),
        (["full", "a.png", "-o", "-"], 2, ["one picture, got several"]),
        (["photo.png", "full", "a.png", "-o", "out"], 2, ["full is a folder"]),
        (["photo.png", "full:0.5", "-o", "out"], 2, ["full is a folder"]),
        (["photo.png", "a.png:x", "-o", "o.png"], 2, ["'x', expected a number", "a.png:0.7"]),
        (["photo.png", "a.png:-1", "-o", "o.png"], 2, ["weights are -1", "from 0 up"]),
        (["photo.png", "a.png", "-o", "o.png", "--alpha", "2"], 2, ["'2'", "from 0 to 1"]),
        (["photo.png", "a.png", "-o", "o.png", "--size", "3"], 2, ["--size", "got 3", "from 16 on"]),
        (["photo.png", "a.png", "-o", "o.png", "--tile", "50"], 2, ["tile 50", "multiple of 8", "try 48"]),
        (["photo.png", "a.png", "-o", "o.png", "--quality", "101"], 2, ["--quality", "from 1 to 100"]),
        (["photo.png", "a.png", "-o", "o.png", "--frobnicate"], 2, ["--frobnicate", "--help"]),
        (["photo.png", "builtin:dots", "-o", "o.png", "--style-size", "64"], 2, ["--style-size"]),
        (["photo.png", "a.png", "-o", "-", "--json"], 2, ["--json and --out -"]),
        (["photo.png", "a.png", "--sheet", "-o", "o.png"], 2, ["--sheet", "leave out a.png"]),
        (["full", "--sheet", "-o", "o.png"], 2, ["--sheet takes one picture, got full"]),
        (["text.mp4", "a.png", "-o", "o.png"], 2, ["written as .mp4, try o.mp4"]),
        (["text.mp4", "full", "-o", "out"], 2, ["text.mp4 is a clip", "no folder"]),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    pictures: Path,
    lite_command: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: list[str],
) -> None:
    monkeypatch.chdir(pictures)
    for name in ("empty", "full"):
        Path(name).mkdir()
    write_image("full/x.png", read_image("a.png"))
    for name in ("text.jpg", "text.mp4"):
        Path(name).write_text("no picture")
    Path("void.png").write_bytes(b"")
    Path("cut.png").write_bytes(Path("photo.png").read_bytes()[:2000])
    write_image("dot.png", np.zeros((1, 1, 3), np.uint8))
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    fails_in_one_line(lite_command(*arguments), code, *words)
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def test_standard_input_with_a_weight_is_read_once_as_well() -> None:
    options = make_parser().parse_args(["-", "-", "-o", "o.png"])
    options.paths = ["-", "-:0.5", "builtin:dots"]
    with pytest.raises(WrongUsage, match="read once"):
        run(options)


def test_a_folder_without_a_model_is_named(pictures: Path, lite_command: Command) -> None:
    arguments = (pictures / "photo.png", pictures / "a.png", "-o", pictures / "out.png")
    ended = lite_command(*arguments, "--model", pictures, model=False)
    fails_in_one_line(ended, 1, f"no model in {pictures}", "model.json", "ganmod export --stages")
    (pictures / "model.json").write_text(
        '{"stages": [], "num_parameters": 3, "whole_styles": true, "style_size": 64}'
    )
    (pictures / "predict.onnx").write_text("no network")
    ended = lite_command(*arguments, "--model", pictures, model=False)
    fails_in_one_line(ended, 1, f"cannot load {pictures / 'predict.onnx'}", "write the folder again")


def test_a_long_computation_shows_its_progress_on_a_terminal(
    pictures: Path, lite_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganmod_lite.progress.DELAY", 0)
    monkeypatch.setattr("ganmod_lite.progress._INTERVAL", 0)
    arguments = (pictures / "photo.png", "builtin:dots", "-o", pictures / "out.png", "--tile", "16")
    assert not lite_command(*arguments).err
    monkeypatch.setattr("ganmod_lite.progress._is_watched", lambda: True)
    err = lite_command(*arguments).err
    assert "photo.png 50%" in err
    assert err.endswith("\r")


def test_what_a_format_cannot_hold_is_known_before_it_is_computed(
    pictures: Path, lite_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(pictures / "long.png", np.zeros((16, 16400, 3), np.uint8))
    monkeypatch.setattr(Stylizer, "apply", None)
    out = pictures / "o.webp"
    ended = lite_command(pictures / "long.png", "builtin:dots", "-o", out)
    fails_in_one_line(ended, 1, f"cannot write {out}", "up to 16383 pixels, got 16400 x 16", "--size")
    assert not out.exists()


def test_a_picture_is_not_written_with_an_unknown_suffix_or_too_long(tmp_path: Path) -> None:
    with pytest.raises(LiteError, match=r"o\.xyz: expected one of the suffixes \.png"):
        lite_write(tmp_path / "o.xyz", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(LiteError, match="up to 16383 pixels"):
        lite_write(tmp_path / "o.webp", np.zeros((16400, 1, 3), np.uint8))


def test_a_content_is_predicted_once(
    pictures: Path, lite_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, sizes = Stylizer.predict, []

    def count(stylizer: Stylizer, style: np.ndarray, **options: int | None) -> np.ndarray:
        sizes.append(style.shape[:2])
        return predict(stylizer, style, **options)

    monkeypatch.setattr(Stylizer, "predict", count)
    photo = pictures / "photo.png"
    assert lite_command(photo, "--sheet", "-o", pictures / "o.png", "--alpha", 0.5).code == 0
    assert len(sizes) == 1
    sizes.clear()
    (pictures / "styles").mkdir()
    for name in ("a.png", "b.png"):
        (pictures / name).rename(pictures / "styles" / name)
    assert lite_command(photo, pictures / "styles", "-o", pictures / "out", "--alpha", 0.5).code == 0
    assert sorted(sizes) == [(53, 75), (64, 64), (70, 90)]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Failed to allocate memory for requested buffer of size 9", ["memory is used up", "--tile 128"]),
        ("std::bad_alloc", ["memory is used up", "--tile 128"]),
        ("Invalid rank for input", ["cannot be computed", "Invalid rank for input"]),
    ],
)
def test_a_failure_of_onnxruntime_is_answered_in_one_line(
    pictures: Path, lite_command: Command, monkeypatch: pytest.MonkeyPatch, message: str, words: list[str]
) -> None:
    class Broken:
        def run(self, names: None, feed: object) -> None:
            raise RuntimeError(message + "\nmore")

    monkeypatch.setattr(Stylizer, "_session", lambda *_: Broken())
    for style in ("builtin:dots", pictures / "a.png"):
        ended = lite_command(pictures / "photo.png", style, "-o", pictures / "o.png")
        fails_in_one_line(ended, 1, *words, "--size")


def test_a_picture_beyond_pillows_limit_is_not_called_damaged(
    pictures: Path, lite_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    ended = lite_command(pictures / "photo.png", "builtin:dots", "-o", pictures / "o.png")
    fails_in_one_line(ended, 1, "photo.png: it has too many pixels, expected 2000 at most")
