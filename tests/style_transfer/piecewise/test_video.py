"""If this fails, a stylized clip flickers, lags, or differs after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_files import greys, sound_of, write_clip
from tiny_style_model import SIZE, make

import style_transfer
from ganmod.io.clip import Clip
from ganmod.io.images import read_image, write_image
from metrics.images.flicker import mean_change
from style_transfer.controls import ControlledStyle, Controls
from style_transfer.piecewise import clip_conversion
from style_transfer.piecewise.clip_conversion import convert_clip
from style_transfer.piecewise.video import ClipStylizer, blend_weights, frame_change, morph
from style_transfer.prepare import interpolate_params
from style_transfer.procedural_styles import builtin_contents, draw_style

RNG = np.random.default_rng(0)
STYLES = [RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(2)]


def noisy(count: int, height: int = 40, width: int = 56, level: int = 6) -> list[np.ndarray]:
    """A still scene with a camera's noise."""
    scene = RNG.integers(30, 220, (height // 8, width // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    return [(scene + RNG.integers(-level, level + 1, scene.shape)).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize("kind", ["adain", "adaconv", "weight_demod", "classic"])
def test_the_first_frame_and_every_frame_without_memory_are_as_single_images(kind: str):
    model = make(kind)
    params = model.predict_style(STYLES[0])
    frames = noisy(3, 37, 53)
    expected = [model.apply_params(frame, params) for frame in frames]
    memory, none = ClipStylizer(model), ClipStylizer(model, smoothing=0, blend=0)
    assert np.abs(memory(frames[0], params).astype(int) - expected[0]).max() <= 1
    for frame, image in zip(frames, expected, strict=True):
        assert np.abs(none(frame, params).astype(int) - image).max() <= 1
    sized = ClipStylizer(model)(frames[0], params, size=24)
    assert np.abs(sized.astype(int) - model.apply_params(frames[0], params, size=24)).max() <= 1


def test_noise_is_held_down_where_nothing_moves():
    model = make("adain")
    params, frames = model.predict_style(STYLES[0]), noisy(8, level=3)
    plain, steady = (
        mean_change([stylizer(frame, params) for frame in frames])
        for stylizer in (ClipStylizer(model, smoothing=0, blend=0), ClipStylizer(model))
    )
    assert 0 < steady < 0.7 * plain


def test_bfloat16_is_as_close_to_float32_as_for_an_image():
    model = make("adaconv")
    params = model.predict_style(STYLES[0])
    frame = noisy(1)[0]
    exact = model.apply_params(frame, params).astype(float)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = np.abs(model.apply_params(frame, params) - exact).mean()
    half = ClipStylizer(model, dtype=torch.bfloat16)
    for _ in range(2):  # the second frame goes through the blending, and is the same
        assert 0 < np.abs(half(frame, params) - exact).mean() < 1.5 * rounded


def test_a_new_shot_starts_again():
    model = make("adaconv")
    params = model.predict_style(STYLES[0])
    before, after = noisy(2), [np.full((40, 56, 3), 250, np.uint8)]
    after[0][:, :20] = 10
    stylizer = ClipStylizer(model)
    for frame in before:
        stylizer(frame, params)
    assert np.array_equal(stylizer(after[0], params), ClipStylizer(model)(after[0], params))


def test_the_past_counts_as_it_should():
    """Closed forms: nothing changed, and a change as large as the tolerance."""
    x = torch.zeros(1, 3, 16, 24)
    assert torch.equal(frame_change(x, x), torch.zeros(1, 1, 2, 3))
    y = x.clone()
    y[:, :, :8, :8] = 0.03
    change = frame_change(y, x)
    assert change[0, 0, 0, 0].item() == pytest.approx(0.03)
    weights = blend_weights(change, 0.6)
    assert weights[0, 0, 1, 2].item() == pytest.approx(0.6)
    assert weights[0, 0, 0, 0].item() == pytest.approx(0.6 * np.exp(-1), rel=1e-4)


def test_statistics_are_averaged_exponentially():
    """smoothing 0.8: each new frame counts a fifth."""
    model = make("classic")
    params = model.predict_style(STYLES[0])
    stylizer = ClipStylizer(model, smoothing=0.8, blend=0)
    expected = None
    for frame in noisy(3, 40, 56):
        stylizer(frame, params)
        image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        mean = model.encode(image).mean(dim=(2, 3), keepdim=True)
        expected = mean if expected is None else 0.8 * expected + 0.2 * mean
    assert expected is not None
    torch.testing.assert_close(stylizer.state()["mean0"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [{"smoothing": 1.0}, {"blend": -0.1}])
def test_shares_that_would_stop_the_clip_are_refused(given: dict[str, float]):
    with pytest.raises(ValueError, match="expected a number from 0"):
        ClipStylizer(make("adain"), **given)  # type: ignore[arg-type]


def test_flicker_on_a_moved_photo_with_the_shipped_model():
    """The promise: 0.7 of the frame-by-frame result. Half a second, a quarter pixel a frame, some noise."""
    model = style_transfer.load()
    params = model.predict_style(draw_style("hatching"))
    photo = torch.from_numpy(builtin_contents()["coffee"]).permute(2, 0, 1)[None].float() / 255
    generator = torch.Generator().manual_seed(0)
    frames = []
    for t in range(5):
        grid = torch.nn.functional.affine_grid(
            torch.tensor([[[0.3, 0.0, t / 1200], [0.0, 0.3, t / 1600]]]),
            [1, 3, 128, 128],
            align_corners=False,
        )
        moved = torch.nn.functional.grid_sample(photo, grid, mode="bicubic", align_corners=False)
        noise = 3 * torch.randn(moved.shape, generator=generator)
        frames.append((moved * 255 + noise).round().clamp(0, 255).byte()[0].permute(1, 2, 0).numpy())
    plain, steady = (
        mean_change([stylizer(frame, params) for frame in frames])
        for stylizer in (ClipStylizer(model, smoothing=0, blend=0), ClipStylizer(model))
    )
    assert steady < 0.7 * plain


def test_a_morph_goes_from_the_first_style_to_the_second():
    model = make("adaconv")
    first, last = (model.predict_style(style) for style in STYLES)
    content = noisy(1, 37, 53)[0]
    frames = list(morph(model, content, first, last, num_frames=5))
    middle = interpolate_params(first, last, 0.5)
    for frame, params in ((frames[0], first), (frames[2], middle), (frames[4], last)):
        assert np.abs(frame.astype(int) - model.apply_params(content, params)).max() <= 1
    with pytest.raises(ValueError, match="num_frames is 1, expected at least 2"):
        next(morph(model, content, first, last, num_frames=1))


# Files.

av = pytest.importorskip("av", reason="the package av is not installed")


class Killed(BaseException):
    """Stops a conversion in a test."""


def test_a_clip_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path):
    """Killed in the third segment; the two done are not computed again."""
    model = make("adaconv")
    params, last = (model.predict_style(style) for style in STYLES)
    source = write_clip(tmp_path / "clip.mp4", frames=noisy(11), sound="aac")
    whole, parts = tmp_path / "whole.mp4", tmp_path / "parts.mp4"
    first = convert_clip(ClipStylizer(model), source, whole, params, last_params=last, segment_frames=4)
    assert (first.num_frames, first.num_resumed, first.notes) == (11, 0, ())
    assert "copied" in first.sound

    def kill(done: int, total: int) -> None:
        assert total == 11
        if done == 10:
            raise Killed

    with pytest.raises(Killed):
        convert_clip(
            ClipStylizer(model), source, parts, params, last_params=last, segment_frames=4, progress=kill
        )
    assert not parts.exists()
    calls: list[int] = []
    stylizer = ClipStylizer(model)
    plain = stylizer._stylize
    stylizer._stylize = lambda *x: (calls.append(1), plain(*x))[1]  # type: ignore[method-assign]
    resumed = convert_clip(stylizer, source, parts, params, last_params=last, segment_frames=4)
    assert resumed.num_resumed == 8
    assert len(calls) == 3
    assert parts.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "parts.mp4", "whole.mp4"]


def test_segments_of_other_settings_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = make("adain")
    params = model.predict_style(STYLES[0])
    source = write_clip(tmp_path / "clip.mp4", frames=noisy(5))
    out = tmp_path / "out.mp4"

    def kill(*arguments: object, **options: object) -> str:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(clip_conversion, "join_segments", kill)
        with pytest.raises(Killed):
            convert_clip(ClipStylizer(model), source, out, params, segment_frames=2)
    assert len(list((tmp_path / ".out.mp4.parts").glob("*.mp4"))) == 3
    other = convert_clip(ClipStylizer(model, blend=0.5), source, out, params, segment_frames=2)
    assert other.num_resumed == 0
    assert not (tmp_path / ".out.mp4.parts").exists()


def test_the_command_makes_a_clip_with_its_sound(tmp_path: Path, ganmod_command):
    model = make("adain")
    model.save(tmp_path / "model.safetensors")
    for i, style in enumerate(STYLES):
        write_image(tmp_path / f"{i}.png", style)
    source = write_clip(tmp_path / "clip.mp4", frames=greys(8), sound="aac")
    common = ("--model", tmp_path / "model.safetensors")
    out = tmp_path / "out.mp4"
    ended = ganmod_command("stylize", source, tmp_path / "0.png", "-o", out, "--size", "32", *common)
    assert ended.code == 0, ended.err
    assert "8 frames, sound copied (aac)" in ended.out
    frames = list(Clip(out).frames())
    assert (len(frames), frames[0].image.shape) == (8, (32, 42, 3))
    assert sound_of(out) == sound_of(source)
    pair = ("--interpolate-styles", tmp_path / "0.png", tmp_path / "1.png")
    write_image(tmp_path / "still.png", noisy(1)[0])
    still = ("stylize", tmp_path / "still.png", *pair, "-o", tmp_path / "morph", "--seconds", "0.2", *common)
    ended = ganmod_command(*still, "--fps", "20")
    assert ended.code == 0, ended.err
    pictures = sorted((tmp_path / "morph").iterdir())
    assert len(pictures) == 4
    for picture, style in ((pictures[0], STYLES[0]), (pictures[-1], STYLES[1])):
        expected = model.stylize(read_image(tmp_path / "still.png"), style)
        assert np.abs(read_image(picture).astype(int) - expected).max() <= 1


def test_a_broken_tail_gives_the_frames_before_it_and_code_1(tmp_path: Path, ganmod_command):
    make("weight_demod").save(tmp_path / "model.safetensors")
    write_image(tmp_path / "style.png", STYLES[0])
    source = write_clip(tmp_path / "clip.mp4", frames=noisy(12, level=25), front=True)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    arguments = ("-o", tmp_path / "out.mp4", "--model", tmp_path / "model.safetensors")
    ended = ganmod_command("stylize", source, tmp_path / "style.png", *arguments)
    assert ended.code == 1
    assert "clip.mp4" in ended.err
    assert "were used" in ended.err
    assert "Traceback" not in ended.err
    assert len(list(Clip(tmp_path / "out.mp4").frames())) >= 4


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("clip.mp4", ["s.png", "-o", "out.png"], "a clip is written as .mp4, try"),
        ("clip.mp4", ["s.png", "-o", "out.mp4", "--tile", "64"], "--tile is for images"),
        ("clip.mp4", ["-o", "out.mp4"], "Missing argument 'STYLE'"),
        ("clip.mp4", ["s.png", "-o", "clip.mp4"], "is the clip itself"),
        ("clip.mp4", [".", "-o", "out.mp4"], "a clip takes images as styles"),
        ("clip.mp4", ["s.png", "-o", "out.mp4", "--fps", "5"], "--fps is for"),
        ("s.png", ["s.png", "-o", "out.png", "--blend", "0.5"], "--blend is for clips"),
        ("s.png", ["s.png", "-o", "o.gif", "--interpolate-styles", "s.png", "s.png"], "not both"),
        (
            "s.png",
            ["-o", "o.gif", "--interpolate-styles", "s.png", "s.png", "--style-at", "1=s.png"],
            "--style-at and --interpolate-styles",
        ),
        ("s.png", ["-o", "o.avi", "--interpolate-styles", "s.png", "s.png"], "expected the suffix .mp4"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    arguments: list[str],
    words: str,
    ganmod_command,
):
    monkeypatch.chdir(tmp_path)
    write_image(Path("s.png"), STYLES[0])
    Path("clip.mp4").write_bytes(b"not read")
    ended = ganmod_command("stylize", content, *arguments)
    assert ended.code == 2, ended.err
    assert words in ended.err


def test_a_file_that_is_no_video_is_named(tmp_path: Path, ganmod_command):
    write_image(tmp_path / "s.png", STYLES[0])
    (tmp_path / "clip.mp4").write_bytes(b"hello" * 99)
    ended = ganmod_command("stylize", tmp_path / "clip.mp4", tmp_path / "s.png", "-o", tmp_path / "out.mp4")
    assert ended.code == 1
    assert "clip.mp4: damaged, cut short or not a video" in ended.err
    assert "Traceback" not in ended.err


def test_a_clip_takes_the_controls_of_images(tmp_path: Path, ganmod_command: Callable[..., Any]) -> None:
    """Two styles mixed and turned give the clip of their mixture's parameters."""
    make("adaconv").save(tmp_path / "m.safetensors")
    styles = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, style in zip(styles, STYLES, strict=True):
        write_image(file, style)
    write_clip(tmp_path / "clip.mp4", frames=noisy(2, 32, 48))
    options = ["--model", tmp_path / "m.safetensors", "--rotate-style", 90, "--smoothing", 0, "--blend", 0]
    weighted = [f"{styles[0]}:0.75", f"{styles[1]}:0.25"]
    ended = ganmod_command("stylize", tmp_path / "clip.mp4", *weighted, *options, "-o", tmp_path / "out.mp4")
    assert ended.code == 0, ended.err
    first = next(Clip(tmp_path / "clip.mp4").frames()).image
    mixed = ControlledStyle(
        style_transfer.load(tmp_path / "m.safetensors"),
        [read_image(file) for file in styles],
        weights=[0.75, 0.25],
        controls=Controls(rotate_style=90),
    )
    stylizer = ClipStylizer(mixed.model, smoothing=0, blend=0)
    convert_clip(stylizer, tmp_path / "clip.mp4", tmp_path / "wanted.mp4", mixed.params(first)[0])
    made, wanted = (
        [frame.image for frame in Clip(tmp_path / f"{name}.mp4").frames()] for name in ("out", "wanted")
    )
    np.testing.assert_array_equal(made, wanted)
