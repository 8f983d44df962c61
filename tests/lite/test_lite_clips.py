"""If this fails, ganmod-lite makes other clips than ganmod, loses their sound, or fails without one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_files import sound_of, sound_only, write_clip
from command_checks import Ended, assert_fails
from smooth_picture import smooth

from ganmod.io.clip import Clip
from ganmod_lite.stylizer import Stylizer
from ganmod_lite.video import Past, _Writer, first_frame
from style_transfer.piecewise.video import ClipStylizer
from style_transfer.procedural_styles import draw_style

pytest.importorskip("av", reason="clips need the package av: pip install 'ganmod[video]'")


def moving(count: int) -> list[np.ndarray]:
    """Frames of waves that move by a pixel each."""
    return [smooth(48, 64, shift=i) for i in range(count)]


def test_frames_are_ganmods_and_a_cut_forgets_the_past(lite_model: Any) -> None:
    network, folder = lite_model
    style = draw_style("dots", 64)
    frames = [*moving(3), 255 - smooth(48, 64), smooth(40, 50)]
    wanted, params = ClipStylizer(network), network.predict_style(style)
    stylizer, past = Stylizer(folder), Past()
    parameters = stylizer.predict(style)
    for i, frame in enumerate(frames):
        expected = wanted(frame, params).astype(int)
        got = stylizer.apply(frame, parameters, before=past)
        assert np.abs(got - expected).max() <= 2, i
    assert np.array_equal(got, stylizer.apply(frames[-1], parameters))  # the first of a shot, as a picture
    alone = stylizer.apply(frames[2], parameters).astype(int)
    assert np.abs(alone - wanted_of_third(network, frames, params)).max() > 2  # the past counts


def wanted_of_third(network: Any, frames: list[np.ndarray], params: Any) -> np.ndarray:
    """ganmod's third frame of a clip."""
    steady = ClipStylizer(network)
    return [steady(frame, params).astype(int) for frame in frames[:3]][-1]


@pytest.mark.parametrize(("sound", "suffix"), [("aac", "mp4"), (None, "mp4"), ("pcm_s16le", "mkv")])
def test_a_clip_keeps_frames_times_and_sound(
    tmp_path: Path, lite_command: Callable[..., Ended], sound: str | None, suffix: str
) -> None:
    times = [0, 1, 2, 4, 7, 8]  # a rate that varies
    source = write_clip(tmp_path / f"in.{suffix}", frames=moving(6), sound=sound, times=times)
    ended = lite_command(source, "builtin:stripes", "-o", tmp_path / "out.mp4", "--size", 32)
    assert ended.code == 0, ended.err
    assert "(42 x 32, 6 frames)" in ended.out
    before, after = (
        [frame.time * clip.time_base for frame in clip.frames()]
        for clip in (Clip(source), Clip(tmp_path / "out.mp4"))
    )
    assert [float(t) for t in after] == pytest.approx([float(t) for t in before], abs=1e-3)
    name, samples = sound_of(tmp_path / "out.mp4")
    assert name == ("aac" if sound else "")
    assert samples == pytest.approx(sound_of(source)[1], abs=3 * 1024)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"in.{suffix}", "out.mp4"]


def test_a_clip_shows_the_style(tmp_path: Path, lite_model: Any, lite_command: Callable[..., Ended]) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=moving(2))
    assert lite_command(source, "builtin:dots", "-o", tmp_path / "out.mp4").code == 0
    first = next(iter(Clip(source).frames())).image
    stylized = next(iter(Clip(tmp_path / "out.mp4").frames())).image.astype(int)
    wanted = lite_model.network.stylize(first, draw_style("dots", 64)).astype(int)
    assert np.abs(stylized - wanted).mean() < 6  # the codec halves the colours' resolution
    assert np.abs(stylized - first).mean() > 12


def test_a_clip_without_pictures_or_folder_is_named(
    tmp_path: Path, lite_command: Callable[..., Ended]
) -> None:
    ended = lite_command(sound_only(tmp_path / "in.mp4"), "builtin:dots", "-o", tmp_path / "out.mp4")
    assert_fails(ended, 1, "in.mp4 has no pictures")
    (tmp_path / "text.mp4").write_text("no clip")
    ended = lite_command(tmp_path / "text.mp4", "builtin:dots", "-o", tmp_path / "out.mp4")
    assert_fails(ended, 1, "cannot read", "text.mp4", "copy it again")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out.mp4").exists()


def test_what_is_before_a_break_is_kept(tmp_path: Path, lite_command: Callable[..., Ended]) -> None:
    whole = write_clip(tmp_path / "in.mp4", frames=moving(8), front=True)
    data = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 15 // 16])
    ended = lite_command(tmp_path / "cut.mp4", "builtin:dots", "-o", tmp_path / "out.mp4")
    assert ended.code == 0, ended.err
    assert 0 < Clip(tmp_path / "out.mp4").num_frames < 8


def test_a_missing_av_says_how_to_install_it(
    tmp_path: Path, lite_command: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=moving(2))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    ended = lite_command(source, "builtin:dots", "-o", tmp_path / "out.mp4")
    assert_fails(ended, 1, "pip install 'ganmod-lite[video]'", "GPL")


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path, lite_command: Callable[..., Ended]) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=moving(2), pixel_aspect=2)
    ended = lite_command(source, "builtin:dots", "-o", tmp_path / "out.mp4")
    assert "(128 x 48, 2 frames)" in ended.out, ended.err
    assert np.array_equal(first_frame(str(source)), next(iter(Clip(source).frames())).image)


def test_a_stretched_clip_is_upright(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=moving(2), pixel_aspect=2, turned=90)
    assert first_frame(str(source)).shape == (128, 48, 3)


@pytest.mark.parametrize("method", ["add", "add_sound", "finish"])
def test_a_full_disk_is_no_broken_source(
    tmp_path: Path, lite_command: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    import av

    source = write_clip(tmp_path / "in.mp4", frames=moving(6), sound="aac")
    written = getattr(_Writer, method)

    def fail(writer: Any, *arguments: Any) -> None:
        if writer.num_frames == (6 if method == "finish" else 2):
            raise av.ExternalError(28, "No space left on device")
        written(writer, *arguments)

    monkeypatch.setattr(_Writer, method, fail)
    ended = lite_command(source, "builtin:dots", "-o", tmp_path / "out.mp4")
    assert_fails(ended, 1, "cannot write", "out.mp4", "No space left")
    assert ended.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def spoil(path: Path, kind: str, start: int) -> None:
    """Overwrite the packets of a clip's "video" or "audio" from number `start` on."""
    import av

    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(**{kind: 0}) if packet.size]
    data = path.read_bytes()
    for packet in packets[start:]:
        data = data.replace(packet, b"\xff" * len(packet))
    path.write_bytes(data)


def test_broken_pictures_are_noted(tmp_path: Path, lite_command: Callable[..., Ended]) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=moving(8), codec="mpeg4")
    spoil(source, "video", 5)
    ended = lite_command(source, "builtin:dots", "-o", tmp_path / "out.mp4", "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["frames"] == 5
    (note,) = report["notes"]
    assert "in.mkv is broken after 5 frames" in note
    assert note in ended.err


@pytest.mark.parametrize("start", [0, 4])
def test_broken_sound_keeps_all_pictures(
    tmp_path: Path, lite_command: Callable[..., Ended], start: int
) -> None:
    source = write_clip(tmp_path / "in.wmv", frames=moving(8), codec="mpeg4", sound="wmav2")
    spoil(source, "audio", start)
    ended = lite_command(source, "builtin:dots", "-o", tmp_path / "out.mp4", "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["frames"] == Clip(tmp_path / "out.mp4").num_frames == 8
    (note,) = report["notes"]
    assert "the sound of" in note
    assert (sound_of(tmp_path / "out.mp4")[1] > 2048) == (start > 0)
