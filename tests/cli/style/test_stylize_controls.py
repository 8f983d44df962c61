"""If this fails, `ganmod stylize` does not do what its controls say, or takes senseless ones in silence."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ganmod.io.images import read_image, write_image
from style_transfer import ControlledStyle, Controls, load, make_masks
from style_transfer.procedural_styles import draw_style


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Coarse noise, uint8 [height,width,3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


PHOTO, A, B = picture(40, 56, 0), picture(64, 64, 1), picture(64, 80, 2)
MASK = np.zeros((40, 56, 3), np.uint8)
MASK[:, :28] = 255


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photo.png, a.png, b.png, mask.png and small.png (8 x 8) in the working folder."""
    named = {"photo": PHOTO, "a": A, "b": B, "mask": MASK, "small": A[:8, :8]}
    for name, image in named.items():
        write_image(tmp_path / f"{name}.png", image)
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


def test_every_control_is_the_librarys(stylize) -> None:
    model = load()
    half = Controls(alpha=0.5, rotate_style=30, style_scale=2, preserve_color="coral")
    all_controls = ("--alpha", 0.5, "--rotate-style", 30, "--style-scale", 2, "--preserve-color", "coral")
    cases = [
        (("a.png:0.7", "b.png:0.3"), ControlledStyle(model, [A, B], weights=[0.7, 0.3])),
        (("a.png:3", "b.png"), ControlledStyle(model, [A, B], weights=[3, 1])),
        (
            ("--style-at", "1-2=a.png", "--style-at", "3-4=b.png"),
            ControlledStyle(model, [], style_at={(1, 2): A, (3, 4): B}),
        ),
        (("b.png", "--style-at", "4=a.png"), ControlledStyle(model, [B], style_at={(4,): A})),
        (
            ("--mask", "mask.png", "a.png", "b.png"),
            ControlledStyle(model, [A, B], masks=make_masks([MASK], 2)),
        ),
        (("a.png", *all_controls), ControlledStyle(model, [A], controls=half)),
    ]
    for arguments, expected in cases:
        ended, result = stylize(*arguments)
        assert ended.code == 0, ended.err
        np.testing.assert_array_equal(result, expected.apply(PHOTO))


def test_normalised_weights_and_regions_are_said(stylize) -> None:
    said = stylize("a.png:0.6", "b.png:0.6")[0].err
    assert "weights, normalised to sum 1: a.png 0.5, b.png 0.5" in said
    assert "normalised" not in stylize("a.png:0.7", "b.png:0.3")[0].err
    assert "weights, normalised to sum 1: a.png 1" in stylize("a.png:0.5")[0].err  # it is no --alpha
    assert "regions: a.png 50%, b.png 50%" in stylize("--mask", "mask.png", "a.png", "b.png")[0].err


def test_folders_take_controls_too(images: Path, ganmod_command) -> None:
    for folder, names in (("photos", ("photo",)), ("styles", ("a", "b"))):
        for name in names:
            write_image(images / folder / f"{name}.png", read_image(images / f"{name}.png"))
    ended = ganmod_command("stylize", "photos", "a.png:1", "b.png:3", "-o", "mixed")
    assert ended.code == 0, ended.err
    assert {path.name for path in (images / "mixed").iterdir()} == {"photo--a+b.png", "grid.png"}
    ended = ganmod_command("stylize", "photos", "styles", "--rotate-style", 90, "-o", "turned")
    assert {path.name for path in (images / "turned").glob("photo*")} == {"photo--a.png", "photo--b.png"}


def test_a_sheet_leaves_out_what_cannot_be_used_and_says_so(images: Path, ganmod_command) -> None:
    write_image(images / "styles" / "a.png", A)
    (images / "styles" / "broken.png").write_bytes(b"no image")
    arguments = ("photo.png", "styles", "--sheet", "alpha=0,1", "--size", 32, "-o", "sheet")
    ended = ganmod_command("stylize", *arguments, "--tile", 16)
    assert ended.code == 1
    assert "left out" in ended.err
    assert "broken.png" in ended.err
    by_tiles = (images / "sheet/sheet.jpg").read_bytes()
    (images / "styles" / "broken.png").unlink()
    assert "was there" in ganmod_command("stylize", *arguments, "--skip-existing").out
    assert (images / "sheet/sheet.jpg").read_bytes() == by_tiles
    (images / "styles" / "a.png").write_bytes(b"no image")
    assert ganmod_command("stylize", *arguments).code == 1


class Images(HTMLParser):
    """The sources of a page's pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.sources.append(dict(attrs)["src"] or "")


def test_a_sheet_shows_contents_by_styles_by_values(images: Path, ganmod_command) -> None:
    for name in ("a", "b"):
        write_image(images / "styles" / f"{name}.png", read_image(images / f"{name}.png"))
    ended = ganmod_command(
        "stylize", "photo.png", "styles", "--sheet", "alpha=0,1", "--size", 32, "-o", "sheet"
    )
    assert ended.code == 0, ended.err
    assert {path.name for path in (images / "sheet").iterdir()} == {"sheet.jpg", "sheet.html"}
    text = (images / "sheet/sheet.html").read_text()
    assert len(Images(text).sources) == 2  # a row per style
    assert "photo in the style of b" in text
    assert "alpha 0, alpha 1" in text
    sheet = read_image(images / "sheet/sheet.jpg").astype(int)
    width, gap = 45, 4  # 32 x 45 pixels each
    assert sheet.shape[1] == gap + 4 * (width + gap)  # content, style, two values
    top = sheet.shape[0] - 2 * (32 + gap)
    expected = load().stylize(PHOTO, A, size=32)
    left = gap + 3 * (width + gap)
    assert np.abs(sheet[top : top + 32, left : left + width] - expected).mean() < 6  # JPEG


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "Missing argument 'STYLE'"),
        (("a.png:x",), 2, "the weight is 'x', expected a number, as in a.png:0.7"),
        (("none.png:1",), 2, "'none.png' does not exist"),
        (("a.png:0", "b.png:0"), 2, "weights are [0, 0], expected numbers from 0 up"),
        (("a.png:-1", "b.png:2"), 2, "weights are [-1, 2], expected numbers from 0 up"),
        ((".:0.5",), 2, "is a folder, of which every image stands alone: no weight"),
        (("a.png", "."), 2, "is a folder among 2 styles: give images to mix"),
        (("--style-at", "1-2=a.png"), 2, "scale 3, 4 has no style, expected one for each of 1 to 4"),
        (("b.png", "--style-at", "1-2=a.png", "--style-at", "2=b.png"), 2, "scale 2 has two styles"),
        (("--style-at", "1-5=a.png"), 2, "scales are '1-5', expected numbers from 1 (coarse) to 4 (fine)"),
        (("--style-at", "a.png"), 2, "expected SCALES=FILE, such as 1-2=painting.jpg"),
        (("--style-at", "1=none.png"), 2, "there is no file none.png"),
        (("a.png", "--mask", "mask.png"), 2, "got 1 styles and 1 masks: expected two styles or more"),
        (("a.png",) * 5 + ("--mask", "mask.png") * 4, 2, "got 5 styles and 4 masks"),
        (("a.png:1", "b.png:1", "--mask", "mask.png"), 2, "leave out the weights and --style-at"),
        ((".", "--mask", "mask.png"), 2, "--mask needs one STYLE per region"),
        (("a.png", "b.png", "--mask", "a.png"), 1, "--mask a.png: the mask has"),
        (("a.png", "b.png", "--mask", "b.png"), 1, "colours"),
        (("small.png",), 1, "small.png is 8 x 8 pixels, expected at least 16 x 16: give a larger image"),
        (("a.png", "--preserve-color", "hue"), 2, "'hue' is not one of"),
        (("a.png", "--style-scale", 0), 2, "0 is not in the range 0.1<=x<=10.0"),
        (("a.png", "--rotate-style", "nan"), 2, "'nan' is no finite number"),
        (("a.png", "--sheet", "size=1,2"), 2, "CONTROL one of alpha, rotate-style, style-scale, preserve"),
        (("a.png", "--sheet", "alpha=0,x"), 2, "'x' is no number"),
        (("a.png", "--sheet", "alpha=2"), 2, "alpha is 2.0, expected a number from 0"),
    ],
)
def test_senseless_arguments_are_refused(stylize, arguments, code: int, words: str) -> None:
    ended, result = stylize(*arguments)
    assert ended.code == code, ended.err
    assert words in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    assert result is None


def test_a_mask_of_another_aspect_names_the_content(images: Path, stylize) -> None:
    write_image(images / "mask.png", MASK[:, 8:])
    ended, _ = stylize("a.png", "b.png", "--mask", "mask.png")
    assert ended.code == 1
    assert "photo.png: the mask is 40 x 48 pixels, the content 40 x 56: expected one aspect" in ended.err


def test_a_mask_with_one_region_warns_and_gives_all_to_one_style(images: Path, stylize) -> None:
    write_image(images / "mask.png", np.full_like(MASK, 255))
    ended, result = stylize("a.png", "b.png", "--mask", "mask.png")
    assert ended.code == 0
    assert "Warning: --mask mask.png: the mask gives no pixel to style 2 of 2" in ended.err
    np.testing.assert_array_equal(result, load().stylize(PHOTO, A))


def test_a_name_with_a_colon_is_a_name(images: Path, stylize) -> None:
    write_image(images / "c:0.5.png", A)
    (images / "c:0.5.png").rename(images / "c:0.5")
    ended, result = stylize("c:0.5")
    assert ended.code == 0, ended.err
    np.testing.assert_array_equal(result, load().stylize(PHOTO, A))


def test_a_style_without_a_direction_is_named_where_it_is_turned(images: Path, ganmod_command) -> None:
    write_image(images / "stripes.png", draw_style("stripes", 96))
    write_image(images / "dots.png", draw_style("dots", 96))
    said = "dots.png has no common direction of strokes to turn"
    for options, lines in (
        (("--rotate-style", 90, "-o", "out.png"), 1),
        (("--rotate-style", 360, "-o", "out.png"), 0),
        (("--sheet", "rotate-style=0,45,90", "-o", "turned"), 1),
        (("--sheet", "alpha=0,1", "-o", "mixed"), 0),
    ):
        ended = ganmod_command("stylize", "photo.png", "dots.png", "--size", 32, *options)
        assert (ended.code, ended.err.count(said)) == (0, lines), ended.err
    assert said in (images / "turned/sheet.html").read_text()
    assert said not in (images / "mixed/sheet.html").read_text()
    ended = ganmod_command("stylize", "photo.png", "stripes.png", "--rotate-style", 90, "-o", "out.png")
    assert (ended.code, "direction" in ended.err) == (0, False)
