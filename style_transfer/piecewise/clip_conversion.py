"""Conversion of video files in segments: an interrupted conversion resumes where it stopped.

A folder next to the result holds the finished segments and the state for the next frame. It is used only if
everything that the result depends on is unchanged, and is removed after the last segment.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganmod.io.atomic_write import TEMPORARY_SUFFIX, atomic_write
from ganmod.io.clip import Clip, ClipFrame, join_segments, write_segment
from ganmod.io.model_file import ModelFileError, read_model_file, save_model_file
from style_transfer.piecewise.tiled import ProgressCallback
from style_transfer.piecewise.video import ClipStylizer
from style_transfer.prepare import interpolate_params

SEGMENT_FRAMES = 30
_INDEX = "index.json"
_STATE_KIND = "clip-state"


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did.

    Attributes:
        num_frames: frames of the result.
        num_resumed: those of them from before an interruption.
        sound: what became of the sound.
        notes: remarks on the input.
    """

    num_frames: int
    num_resumed: int
    sound: str
    notes: tuple[str, ...]


def convert_clip(
    stylizer: ClipStylizer,
    source: str | Path,
    out: str | Path,
    params: list[Any],
    *,
    last_params: list[Any] | None = None,
    size: int | None = None,
    segment_frames: int = SEGMENT_FRAMES,
    progress: ProgressCallback = lambda done, total: None,
) -> ConversionReport:
    """Stylise a video file as .mp4, with its sound and its frames' times.

    Repeating a call resumes it after the last complete segment, with the same result. A truncated video gives
    the frames before the break, and a note.

    Args:
        params: of one style, from `model.predict_style`.
        last_params: of a second style, to which the clip morphs.
        size: short side in pixels; None: as the source.
        segment_frames: frames of a segment.
        progress: called with the number of frames done and of all.

    Raises:
        ClipError: for a video that cannot be used.
        ValueError: for another suffix than .mp4, without the package av, and for two styles that cannot be
            mixed.
    """
    source, out = Path(source), Path(out)
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"cannot write {out}: a clip is written as .mp4, try {out.with_suffix('.mp4')}")
    clip = Clip(source)
    if last_params is not None:
        stylizer.model.decoder.check_mixes()
    settings = _settings(stylizer, source, params, last_params, size, segment_frames)
    parts = _Parts(out.with_name(f".{out.name}.parts"), settings)
    resumed = parts.num_frames
    stylizer.load_state(parts.state() if resumed else {})

    def stylize(index: int, frame: ClipFrame) -> np.ndarray:
        share = min(index / max(clip.num_frames - 1, 1), 1.0)
        mixed = params if last_params is None else interpolate_params(params, last_params, share)
        return stylizer(frame.image, mixed, size=size)

    for begin, segment in _segments(clip.frames(), segment_frames):
        if begin < resumed:
            progress(begin + len(segment), clip.num_frames)
            continue
        images = []
        for i, frame in enumerate(segment, begin):
            images.append(stylize(i, frame))
            progress(i + 1, clip.num_frames)
        if len(segment) == segment_frames:
            parts.add(images, segment, clip.rate, stylizer.state())
        else:  # the last segment, which needs no state
            parts.add(images, segment, clip.rate, {})
    last = parts.segments[-1][1][-1]
    end = last * clip.time_base + 1 / clip.rate if clip.broken else None
    messages: list[str] = []
    atomic_write(
        out,
        lambda temporary: messages.append(
            join_segments(temporary, parts.segments, clip.time_base, sound=source, sound_end=end)
        ),
    )
    parts.remove()
    return ConversionReport(parts.num_frames, resumed, messages[0], tuple(clip.notes))


def _segments(frames: Iterator[ClipFrame], length: int) -> Iterator[tuple[int, list[ClipFrame]]]:
    """Yield (index of the first frame, up to `length` frames)."""
    begin, segment = 0, []
    for frame in frames:
        segment.append(frame)
        if len(segment) == length:
            yield begin, segment
            begin, segment = begin + length, []
    if segment:
        yield begin, segment


class _Parts:
    """The folder of segments; those that the index lists are complete."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Open the folder; segments of another conversion, or damaged ones, are removed."""
        self.folder, self.settings = folder, settings
        self.segments: list[tuple[Path, list[int]]] = []
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            if index["settings"] == settings:
                self.segments = [(folder / name, list(times)) for name, times in index["segments"]]
                self.state()
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ModelFileError):
            self.segments = []
        if not all(file.is_file() for file, _ in self.segments):
            self.segments = []
        if not self.segments and (folder / _INDEX).is_file():
            self.remove()

    @property
    def num_frames(self) -> int:
        return sum(len(times) for _, times in self.segments)

    def _state_file(self, segments: int) -> Path:
        return self.folder / f"state-{segments:06d}.safetensors"

    def state(self) -> dict[str, Tensor]:
        """The state for the frame after the last segment."""
        return read_model_file(self._state_file(len(self.segments)), expect_kind=_STATE_KIND).tensors

    def add(
        self, images: list[np.ndarray], frames: list[ClipFrame], rate: Fraction, state: dict[str, Tensor]
    ) -> None:
        file = self.folder / f"{len(self.segments):06d}.mp4"
        atomic_write(file, lambda temporary: write_segment(temporary, images, rate))
        self.segments.append((file, [frame.time for frame in frames]))
        save_model_file(self._state_file(len(self.segments)), state, kind=_STATE_KIND, config={})
        index = {"settings": self.settings, "segments": [[path.name, times] for path, times in self.segments]}
        text = json.dumps(index)
        atomic_write(self.folder / _INDEX, lambda temporary: _write(temporary, text))
        self._state_file(len(self.segments) - 1).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove what a conversion writes; a folder with other files stays."""
        for pattern in ("*.mp4", "state-*.safetensors", _INDEX, f".*{TEMPORARY_SUFFIX}"):
            for file in self.folder.glob(pattern):
                file.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            shutil.rmtree(self.folder)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _settings(
    stylizer: ClipStylizer,
    source: Path,
    params: list[Any],
    last_params: list[Any] | None,
    size: int | None,
    segment_frames: int,
) -> dict[str, Any]:
    """All that the result depends on; the video is identified by path, size and time."""
    digest = hashlib.sha256()
    predicted = [x for group in (params, last_params or []) for layer in group for x in layer]
    for tensor in (*stylizer.model.state_dict().values(), *predicted):
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    facts = source.stat()
    return {
        "source": [str(source.resolve()), facts.st_size, facts.st_mtime_ns],
        "weights and styles": digest.hexdigest(),
        "model": repr(stylizer.model.spec),
        "morph": last_params is not None,
        "smoothing": stylizer.smoothing,
        "blend": stylizer.blend,
        "dtype": str(stylizer.dtype),
        "device": stylizer.model.feature_rms.device.type,
        "torch": torch.__version__,
        "size": size,
        "segment_frames": segment_frames,
    }
