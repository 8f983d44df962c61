"""If this fails, a control of the page gives another picture than PyTorch, or a bad file stops the page."""

from __future__ import annotations

import base64
import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from page_visitor import Visitor, serve
from PIL import Image
from tiny_generator import tiny_generator

import style_transfer
from ganmod.cli.web.generator import export_generator_files
from ganmod.cli.web.page import BUILT, PAGE, collect_page, write_page
from ganmod.data.seeding import seed_latents
from ganmod.io.images import read_image, resize_short_side
from ganmod.stylegan2 import Generator
from ganmod.stylegan2.sampling import map_latents, mix_layers, render
from ganmod.stylegan2.stylegan2_file import save_stylegan2
from style_transfer import ControlledStyle, Controls
from style_transfer.masks import make_masks
from style_transfer.procedural_styles import builtin_contents, draw_style

pytestmark = pytest.mark.slow
CLOSE = 2  # grey levels
PHOTO = resize_short_side(builtin_contents()["coffee"], 150)  # 225 x 150: several tiles at any size of them
STYLES = [draw_style("brush_strokes", 90, seed=6), draw_style("mosaic", 130, seed=5)[:100]]


def assert_close(actual: np.ndarray, wanted: np.ndarray) -> None:
    assert actual.shape == wanted.shape
    assert np.abs(actual.astype(int) - wanted).max() <= CLOSE


def enlarge(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def canvas(visitor: Visitor, name: str, mode: str = "RGB") -> np.ndarray:
    """What a canvas of the page shows."""
    data = visitor.page.evaluate(f"document.getElementById('{name}').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert(mode))


def opacity(visitor: Visitor) -> np.ndarray:
    """The painted mask [H,W]."""
    return canvas(visitor, "mask", "RGBA")[..., 3]


def stylise_inside(mask: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The photo in STYLES[0] inside the mask [H,W], in STYLES[1] outside."""
    masks = make_masks([np.repeat(mask[..., None], 3, axis=2)], 2)
    return ControlledStyle(style_transfer.load(), STYLES, masks=masks).apply(photo)


@pytest.fixture
def opened(visitor: Visitor) -> Visitor:
    """A page with PHOTO and STYLES; the first tile is STYLES[1], the second STYLES[0]."""
    visitor.choose_and_wait("photo", PHOTO, "cup.png")
    for i, style in enumerate(STYLES):
        visitor.choose_and_wait("style", style, f"style {i}.png")
    return visitor


def choose_mode(visitor: Visitor, mode: str, styles: list[int]) -> None:
    """Select a mode and a style of STYLES for each slot."""
    visitor.page.check(f"[name=mode][value={mode}]", force=True)
    for slot, style in enumerate(styles):
        visitor.page.locator("#slots .slot").nth(slot).click()
        visitor.page.click(f"#styles .tile[title='style {style}']")


def test_strength_strokes_and_rotation(opened: Visitor) -> None:
    opened.slide("alpha", 60)
    opened.slide("strokes", 0.5)
    opened.slide("degrees", 40)
    opened.wait()
    controls = Controls(alpha=0.6, rotate_style=40, style_scale=2**0.5)
    wanted = ControlledStyle(style_transfer.load(), [STYLES[1]], controls=controls).apply(PHOTO)
    assert_close(opened.result(), wanted)
    assert not opened.reports


def test_the_photo_is_drawn_again_only_when_it_or_its_size_changes(opened: Visitor) -> None:
    opened.wait()
    opened.page.evaluate("""() => {
        window.drawn = [];
        const draw = CanvasRenderingContext2D.prototype.putImageData;
        CanvasRenderingContext2D.prototype.putImageData = function (...args) {
            window.drawn.push(this.canvas.id);
            return draw.apply(this, args);
        };
    }""")
    opened.slide("alpha", 60)
    opened.wait()
    assert opened.page.evaluate("drawn") == ["after"]
    opened.page.select_option("#size", "262144")
    opened.wait()
    assert opened.page.evaluate("drawn") == ["after", "before", "after"]
    opened.choose_and_wait("photo", PHOTO[:, ::-1], "mirrored.png")
    opened.wait()
    assert opened.page.evaluate("drawn") == ["after", *2 * ["before", "after"]]
    assert np.array_equal(canvas(opened, "before"), PHOTO[:, ::-1])


def test_a_style_for_each_scale(opened: Visitor) -> None:
    choose_mode(opened, "scales", [0, 1, 1, 0])
    opened.wait()
    at = {(1, 4): STYLES[0], (2, 3): STYLES[1]}
    assert_close(opened.result(), ControlledStyle(style_transfer.load(), [], style_at=at).apply(PHOTO))


def test_two_styles_mixed(opened: Visitor) -> None:
    choose_mode(opened, "mix", [0, 1])
    opened.slide("mix", 30)
    opened.wait()
    wanted = ControlledStyle(style_transfer.load(), STYLES, weights=[0.7, 0.3]).apply(PHOTO)
    assert_close(opened.result(), wanted)


def test_styles_inside_and_outside_of_a_painted_mask(opened: Visitor) -> None:
    choose_mode(opened, "mask", [0, 1])
    opened.wait()
    opened.page.click("[data-mask=left]")
    box = opened.page.locator("#mask").bounding_box()
    assert box is not None
    opened.page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.3 * box["height"])
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.7 * box["height"], steps=3)
    opened.page.mouse.up()
    opened.page.focus("#mask")
    opened.page.keyboard.press("e")  # the eraser
    opened.page.keyboard.press("Space")  # in the middle
    opened.wait()
    alpha = opacity(opened)
    assert alpha.shape == PHOTO.shape[:2]
    assert alpha[10, 10] == alpha[75, 160] == 255  # filled, and painted
    assert alpha[10, 215] == alpha[75, 112] == 0  # outside, and erased
    assert_close(opened.result(), stylise_inside(alpha, PHOTO))
    portrait = np.ascontiguousarray(PHOTO.transpose(1, 0, 2))  # as many pixels: the mask must not be reused
    opened.choose_and_wait("photo", portrait, "portrait.png")
    opened.wait()
    alpha = opacity(opened)
    assert alpha.shape == portrait.shape[:2]
    assert_close(opened.result(), stylise_inside(alpha, portrait))


def test_files_that_are_no_pictures_get_a_message(opened: Visitor) -> None:
    opened.wait()
    before = opened.result()
    for what in ("photo", "style"):
        opened.choose(what, b"some text", "notes.jpg")
        opened.page.wait_for_selector("#error:not([hidden])")
        assert opened.error().startswith("notes.jpg cannot be read as a picture: expected a JPEG,")
        opened.page.click("#error button")
    opened.choose("photo", np.zeros((1, 1, 3), np.uint8), "dot.png")
    opened.page.wait_for_selector("#error:not([hidden])")
    assert opened.error().startswith("dot.png is 1 × 1 pixels, expected at least 16 × 16")  # noqa: RUF001
    assert opened.page.get_attribute("body", "data-state") == "idle"
    assert np.array_equal(opened.result(), before)
    assert not opened.reports


def test_a_photo_of_20_megapixels_is_scaled_down(visitor: Visitor) -> None:
    large = enlarge(builtin_contents()["rocket"], 5480, 3650)
    visitor.page.select_option("#size", "262144")
    visitor.choose_and_wait("photo", large, "launch.png")
    visitor.wait(240)
    result = visitor.result()
    height, width = result.shape[:2]
    assert 0.98 * 262144 < width * height <= 262144
    assert abs(width / height - 5480 / 3650) < 0.01
    note = visitor.page.locator("#note").inner_text()
    assert note.startswith("The photo has 20.0 megapixels (5480 × 3650); it was scaled down to")  # noqa: RUF001
    shown = canvas(visitor, "before")
    wanted = style_transfer.load().stylize(shown, read_image(PAGE / BUILT / "styles/strokes-sea.jpg"))
    assert_close(result, wanted)
    assert not visitor.reports


def test_a_new_photo_replaces_a_run(opened: Visitor) -> None:
    opened.wait()
    opened.choose_and_wait("photo", enlarge(PHOTO, 1200, 800), "large.png")
    painting = "#stage:has(.waiting) #progress[value]:not([value='0'])"
    opened.page.wait_for_selector(painting, timeout=60_000)
    opened.choose_and_wait("photo", PHOTO[:, ::-1], "mirrored.png")
    opened.wait()
    wanted = style_transfer.load().stylize(np.ascontiguousarray(PHOTO[:, ::-1]), STYLES[1])
    assert_close(opened.result(), wanted)
    assert not opened.reports
    assert opened.error() == ""


def test_every_control_has_a_name_and_a_phone_has_room(opened: Visitor) -> None:
    controls = """[...document.querySelectorAll("button, input, select, canvas[tabindex]")]
        .filter((e) => !e.labels?.length && !e.innerText?.trim() && !e.getAttribute("aria-label"))
        .filter((e) => e.type !== "file").map((e) => e.outerHTML)"""
    opened.page.set_viewport_size({"width": 360, "height": 740})
    for mode in ("one", "mix", "scales", "mask"):
        opened.page.check(f"[name=mode][value={mode}]", force=True)
        assert opened.page.evaluate(controls) == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    opened.page.check("[name=mode][value=one]", force=True)
    opened.page.focus("#styles .tile:nth-child(2)")
    opened.page.keyboard.press("Enter")
    assert opened.page.locator("#style-name").inner_text() == "style 0"
    assert opened.page.evaluate("document.activeElement.title") == "style 0"


def test_the_folder_of_build_works_on_a_host_without_headers(browser: Any, tmp_path: Path) -> None:
    write_page(collect_page(), tmp_path / "site")
    handler = partial(QuietHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        visitor = Visitor(browser.new_page(), f"http://127.0.0.1:{server.server_address[1]}/")
        visitor.open()
        visitor.choose_and_wait("photo", PHOTO)
        visitor.wait()
        assert not visitor.page.evaluate("crossOriginIsolated")
        wanted = style_transfer.load().stylize(PHOTO, read_image(PAGE / BUILT / "styles/strokes-sea.jpg"))
        assert_close(visitor.result(), wanted)
        assert not visitor.reports
        visitor.page.close()
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """A plain host, as Python has one."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize("c_dim", [0, 2])
def test_the_generator_tab_gives_the_images_of_ganmod_generate(
    c_dim: int, browser: Any, tmp_path: Path
) -> None:
    G: Generator = tiny_generator(c_dim=c_dim)
    names = ("cat", "dog")[:c_dim]
    save_stylegan2(tmp_path / "g.safetensors", G_ema=G, class_names=names)
    export_generator_files(tmp_path / "g.safetensors", tmp_path / "generator")
    label = torch.tensor([[0.0, 1.0]]) if c_dim else None
    ws = map_latents(G, seed_latents([7, 8], G.z_dim), label, truncation_psi=0.5)
    with serve(collect_page(generator=tmp_path / "generator")) as server:
        visitor = Visitor(browser.new_page(), server.address)
        visitor.open()
        visitor.page.click("#tab-generate")
        visitor.page.fill("#seed", "7")
        visitor.slide("truncation", 0.5)
        if c_dim:
            visitor.page.select_option("#class", label="dog")
        visitor.wait()
        assert_close(visitor.result("sample-download"), render(G, ws[:1])[0])
        visitor.page.fill("#seed-b", "8")
        visitor.page.check("#levels label:nth-child(2) input")  # 8 pixels: layers 1 and 2
        visitor.wait()
        mixed = mix_layers(ws[:1], ws[1:], [1, 2])[0]
        assert_close(visitor.result("sample-download"), render(G, mixed)[0])
        visitor.page.fill("#seed", "-1")
        visitor.page.wait_for_selector("#sample-error:not([hidden])")
        assert "expected a whole number from 0" in visitor.page.locator("#sample-error p").inner_text()
        assert not visitor.reports
        visitor.page.close()
