"""If this fails, `ganmod stylize` takes another part of a style than it was told, or overwrites its input."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from command_checks import assert_fails
from tiny_style_model import make, tiny

from ganmod.io.images import read_image, write_image
from style_transfer import ControlledStyle, StyleTransferModel, load


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Coarse noise, uint8 [height,width,3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


PHOTO, A, B = picture(40, 56, 0), picture(64, 96, 1), picture(80, 96, 2)
LEFT = np.zeros((32, 48, 3), np.uint8)
LEFT[:, :24] = 255
TOP = np.zeros((80, 96, 3), np.uint8)
TOP[:40] = 255


@pytest.fixture(scope="module")
def residual() -> StyleTransferModel:
    return tiny("residual")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, residual: StyleTransferModel) -> Path:
    """photo.png, a.png, b.png, left.png (a mask of a's aspect), top.png (of b's), m.safetensors, and
    paper.safetensors, of the architecture 'modulated'.
    """
    named = {"photo": PHOTO, "a": A, "b": B, "left": LEFT, "top": TOP, "black": np.zeros_like(A)}
    for name, image in named.items():
        write_image(tmp_path / f"{name}.png", image)
    residual.save(tmp_path / "m.safetensors")
    make("adain").save(tmp_path / "paper.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stylize(images: Path, ganmod_command):
    """`ganmod stylize photo.png ARGUMENTS -o o.png` -> how it ended, the picture or None."""

    def run(*arguments: object):
        ended = ganmod_command("stylize", "photo.png", *arguments, "-o", "o.png")
        out = images / "o.png"
        return ended, read_image(out) if out.exists() else None

    return run


CROP = ("--style-crop", "10,20,40,32")
MODEL = ("--model", "m.safetensors")
PAPER = ("--model", "paper.safetensors")


def test_a_rectangle_is_cut_first_for_every_kind_of_model(stylize, residual: StyleTransferModel) -> None:
    cut = A[20:52, 10:50]
    for model, arguments in ((load(), ()), (residual, MODEL)):
        ended, result = stylize("a.png", *CROP, *arguments)
        assert ended.code == 0, ended.err
        np.testing.assert_array_equal(result, model.stylize(PHOTO, cut))
    for crops, parts in (
        (CROP, [cut, B[20:52, 10:50]]),
        ((*CROP, "--style-crop", "0,0,96,64"), [cut, B[:64]]),
    ):
        ended, result = stylize("a.png:1", "b.png:1", *crops)
        assert ended.code == 0, ended.err
        expected = ControlledStyle(load(), parts, weights=[1, 1]).apply(PHOTO)
        np.testing.assert_array_equal(result, expected)
    ended, result = stylize("b.png", "--style-at", "1=a.png", "--style-crop", "0,0,96,64", *CROP)
    expected = ControlledStyle(load(), [B[:64]], style_at={(1,): cut}).apply(PHOTO)
    np.testing.assert_array_equal(result, expected)


def test_masks_and_sizes_are_the_librarys(stylize, residual: StyleTransferModel) -> None:
    cases = [
        (("a.png", "--style-mask", "left.png"), {"styles": [A], "style_masks": [LEFT]}),
        (("a.png", "--style-size", 48), {"styles": [A], "style_size": 48}),
        (
            ("a.png", "b.png", "--style-mask", "left.png", "--style-mask", "top.png"),
            {"styles": [A, B], "style_masks": [LEFT, TOP]},
        ),
        (
            ("b.png", "--style-crop", "0,16,96,64", "--style-mask", "left.png", "--style-size", 32),
            {"styles": [B[16:]], "style_masks": [LEFT], "style_size": 32},
        ),
    ]
    results = []
    for arguments, library in cases:
        ended, result = stylize(*arguments, *MODEL)
        assert ended.code == 0, ended.err
        np.testing.assert_array_equal(result, ControlledStyle(residual, **library).apply(PHOTO))  # type: ignore
        results.append(result)
    assert (results[0] != residual.stylize(PHOTO, A)).any()


def test_a_folder_of_styles_has_one_part_for_all(images: Path, ganmod_command) -> None:
    for name, style in (("a", A), ("b", B), ("small", B[:40])):
        write_image(images / "styles" / f"{name}.png", style)
    ended = ganmod_command("stylize", "photo.png", "styles", *CROP, "-o", "out")
    assert_fails(ended, 1, "small.png", "beyond the picture: the picture is 96 wide and 40 high")
    for name, style in (("a", A), ("b", B)):
        expected = load().stylize(PHOTO, style[20:52, 10:50])
        np.testing.assert_array_equal(read_image(images / "out" / f"photo--{name}.png"), expected)
    arguments = ("stylize", "photo.png", "styles", *CROP, *CROP, "-o", "out")
    assert_fails(ganmod_command(*arguments), 2, "--style-crop: got 2 for a folder, expected one for all")


def test_a_sheet_shows_the_part_that_counts(images: Path, ganmod_command) -> None:
    arguments = ("--sheet", "alpha=1", "--size", 32, "-o", "sheet")
    assert ganmod_command("stylize", "photo.png", "a.png", "--style-crop", "0,0,32,32", *arguments).code == 0
    sheet = read_image(images / "sheet/sheet.jpg").astype(int)
    cell = sheet[-36:-4, 4 + 45 + 4 : 4 + 45 + 4 + 45]  # 32 x 45 pixels, the style's 32 x 32 in their middle
    assert np.abs(cell[:, 6:38] - A[:32, :32]).mean() < 12  # JPEG


def test_the_ends_of_a_morph_have_parts(images: Path, ganmod_command) -> None:
    ends = ("--interpolate-styles", "a.png", "b.png", "--style-crop", "0,0,96,64", *CROP)
    ended = ganmod_command("stylize", "photo.png", *ends, "--seconds", 1, "--fps", 2, "-o", "frames")
    assert ended.code == 0, ended.err
    first, last = sorted((images / "frames").glob("*.png"))
    for file, style in ((first, A), (last, B[20:52, 10:50])):
        np.testing.assert_array_equal(read_image(file), load().stylize(PHOTO, style))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("a.png", "--style-crop", "60,0,40,40"), 1, "the picture is 96 wide and 64 high"),
        (("a.png", "--style-crop", "0,0,15,40"), 1, "is too small: the picture is 96 wide and 64 high"),
        (("a.png", "--style-crop", "0,0,40"), 2, "expected X,Y,W,H in pixels, such as 100,50,400,300"),
        (("a.png", "--style-crop", "0,0,x,40"), 2, "'0,0,x,40': expected X,Y,W,H in pixels"),
        (("a.png", *CROP, *CROP), 2, "got 2 for 1 style, expected one per style in their order"),
        (("a.png", *PAPER, "--style-mask", "left.png"), 1, "the architecture 'modulated' sees styles of"),
        (("a.png", *PAPER, "--style-size", 128), 1, "style_size is 128, but the architecture 'modulated'"),
        (("a.png", *MODEL, "--style-size", 8), 2, "8 is not in the range x>=16"),
        (("a.png", *MODEL, "--style-mask", "top.png"), 1, "--style-mask top.png: the mask is 80 x 96 pixels"),
        (
            ("a.png", *MODEL, "--style-mask", "black.png"),
            1,
            "--style-mask black.png: the style mask is black",
        ),
        (("a.png", *MODEL, "--style-mask", "none.png"), 2, "'none.png' does not exist"),
    ],
)
def test_parts_that_do_not_fit_are_refused(stylize, arguments, code: int, words: str) -> None:
    ended, result = stylize(*arguments)
    assert_fails(ended, code, words)
    assert len(ended.err.splitlines()) == 1 or code == 2
    assert result is None


def test_an_input_is_not_overwritten(images: Path, ganmod_command) -> None:
    os.symlink("photo.png", images / "link.png")
    before = {file: file.read_bytes() for file in images.glob("*.png")}
    for arguments in (
        ("a.png", "-o", "photo.png"),
        ("a.png", "-o", "./a.png"),
        ("a.png", "-o", "link.png"),
        ("a.png", "--style-at", "1=b.png", "-o", "b.png"),
        ("a.png", "b.png", "--mask", "left.png", "-o", images / "left.png"),
        ("a.png", "--style-mask", "left.png", "-o", "left.png"),
        ("a.png", "-o", "photo.png", "--skip-existing"),
    ):
        ended = ganmod_command("stylize", "photo.png", *arguments)
        assert_fails(ended, 2, "which is read and would be overwritten: give another name")
    write_image(images / "out" / "grid.png", PHOTO)
    write_image(images / "styles" / "a.png", A)
    ended = ganmod_command("stylize", "out/grid.png", "styles", "-o", "out")
    assert_fails(ended, 2, "would overwrite out/grid.png, which is read: give another folder")
    morph = ("--interpolate-styles", "a.png", "b.gif", "-o", "b.gif")
    (images / "b.gif").write_bytes((images / "b.png").read_bytes())
    assert_fails(ganmod_command("stylize", "photo.png", *morph), 2, "b.gif is b.gif, which is read")
    assert {file: file.read_bytes() for file in images.glob("*.png")} == before


def test_learned_styles_are_given_by_name(images: Path, stylize) -> None:
    model = make("johnson-cin")
    model.save(images / "learned.safetensors")
    learned = ("--model", "learned.safetensors")
    for arguments, library in (
        (("learned:b",), {"styles": ["b"]}),
        (("learned:a:1", "learned:c:3"), {"styles": ["a", "c"], "weights": [1, 3]}),
        (("learned:a", "--style-at", "1-2=learned:b"), {"styles": ["a"], "style_at": {(1, 2): "b"}}),
    ):
        ended, result = stylize(*arguments, *learned)
        assert ended.code == 0, ended.err
        np.testing.assert_array_equal(result, ControlledStyle(model, **library).apply(PHOTO))  # type: ignore
    for arguments, message in (
        (("a.png", *learned), "reads no style images, it has learned a, b, c"),
        (("learned:d", *learned), "this model has no style 'd'"),
        (("learned:a", *MODEL), "this model reads style images: give a picture"),
        (("learned:a", "--style-crop", "0,0,32,32", *learned), "is no picture of which a part could count"),
        (("learned:a", "--rotate-style", 20, *learned), "leave out rotate_style"),
    ):
        ended, _ = stylize(*arguments)
        assert ended.code != 0
        assert message in ended.err
        assert "Traceback" not in ended.err
