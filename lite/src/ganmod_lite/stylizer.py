"""The networks: they predict parameters from styles and apply them to photos, by onnxruntime."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ganmod_lite.errors import LiteError, WrongUsage
from ganmod_lite.files import read_manifest
from ganmod_lite.images import (
    MAX_ASPECT,
    MIN_SIDE,
    mirror_to_multiple,
    resize_short_side,
    to_pixels,
    to_planes,
)
from ganmod_lite.sweep import Moments, Sweep, balanced_cuts, cuts, measure

MAX_THREADS = 8  # each takes the memory of a tile
# Pixels of a tile: a sixth of the picture, which keeps several cores busy, within these limits. Smaller tiles
# have too much margin; 384**2 would take 5 % less time and half as much memory again.
MIN_AREA, MAX_AREA = 192**2, 256**2
Progress = Callable[[int, int], None]  # tiles done, and of all


class FramesBefore(Protocol):
    """What steadies the frame of a clip by those before it; see `ganmod_lite.video`."""

    def blend_features(self, frame: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Features [C,h,w] of a frame [3,H,W] in [0,1] -> blended with the former frame's."""

    def smooth_moments(self, stage: int, moments: Moments) -> Moments:
        """Moments of a stage's input, averaged with those before."""


def count_cores() -> int:
    """Physical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    else:
        allowed = set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text())
        except OSError:  # not on Linux
            cores.add(str(cpu))
    return len(cores)


class Stylizer:
    """A model in a folder of ONNX files, as `ganmod export --stages` writes it.

    Parameters of a style are one vector, float32 [P]; mixtures of styles are weighted sums of them.
    """

    def __init__(self, folder: str | Path | None = None, *, threads: int | None = None) -> None:
        """Read what the model is made of; networks are loaded on first use.

        Args:
            folder: of the model; None: the one in this package.
            threads: computed in parallel; None: one for each physical core, at most 8.

        Raises:
            LiteError: the folder holds no model.
        """
        self.folder, self.about = read_manifest(folder)
        self.stages: list[dict[str, Any]] = self.about["stages"]
        self.num_parameters: int = self.about["num_parameters"]
        self.threads = threads or min(count_cores(), MAX_THREADS)
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()

    def _session(self, name: str) -> Any:
        """The network of a file, such as "predict"."""
        with self._lock:
            if name not in self._sessions:
                path = self.folder / f"{name}.onnx"
                try:
                    self._sessions[name] = _open_session(path, self.threads if name == "predict" else 1)
                except Exception as error:  # of onnxruntime's own types, which it does not export
                    reason = str(error).partition("\n")[0]
                    raise LiteError(
                        f"cannot load {path}: {reason}; expected a network of `ganmod export --stages`: "
                        "write the folder again"
                    ) from error
            return self._sessions[name]

    def predict(self, style: np.ndarray, *, size: int | None = None) -> np.ndarray:
        """Parameters [P] of a style.

        Args:
            style: uint8 [H,W,3] of any size.
            size: short side in pixels to which it is brought; None: the model's. Fewer for styles longer than
                MAX_ASPECT : 1.

        Raises:
            WrongUsage: for a size below 16, and for any size if the model takes squares of one size.
        """
        whole, side = self.about["whole_styles"], self.about["style_size"]
        if size is not None and not whole:
            raise WrongUsage(
                f"style size {size}: this model takes styles of {side} pixels only, leave it out"
            )
        if size is not None and size < MIN_SIDE:
            raise WrongUsage(f"style size {size}: expected at least {MIN_SIDE} pixels")
        size = size or side
        if whole:  # a strip of a thousand pixels by one would become half a million by 512
            short, long = sorted(style.shape[:2])
            size = max(min(size, size * MAX_ASPECT * short // long), MIN_SIDE)
        planes = resize_short_side(to_planes(style), size)
        if not whole:
            top, left = (planes.shape[1] - side) // 2, (planes.shape[2] - side) // 2
            planes = np.ascontiguousarray(planes[:, top : top + side, left : left + side])
        return _run(self._session("predict"), {"style": planes[None]})[0]

    def unload_predictor(self) -> None:
        """Free the memory of the predictor's network; `predict` loads it again."""
        with self._lock:
            self._sessions.pop("predict", None)

    def apply(
        self,
        content: np.ndarray,
        parameters: np.ndarray,
        *,
        size: int | None = None,
        tile: int | None = None,
        progress: Progress = lambda done, total: None,
        before: FramesBefore | None = None,
    ) -> np.ndarray:
        """Stylise a picture, uint8 [H,W,3] -> uint8.

        The tiles change nothing but time and memory.

        Args:
            content: of any size from 16 x 16 pixels on.
            parameters: [P], of a style or a mixture.
            size: short side of the result in pixels; None: as the content.
            tile: side of a tile in pixels, a multiple of 8 from 16 on; None: what is fast.
            progress: called with the number of tiles done and of all.
            before: of a clip, the frames before.

        Raises:
            WrongUsage: for another tile or size.
        """
        check_sizes(size, tile)
        planes = resize_short_side(to_planes(content), size)
        height, width = planes.shape[1:]
        unit = self.about["unit"]
        x = mirror_to_multiple(planes, unit)
        del planes
        sides = x.shape[1] // unit, x.shape[2] // unit
        if tile is None:
            area = min(max(-(-x.shape[1] * x.shape[2] // 6), MIN_AREA), MAX_AREA)
            rows, columns = balanced_cuts(*sides, -(-area // unit**2))
        else:
            rows, columns = (cuts(side, tile // unit) for side in sides)
        total, done = (len(self.stages) + 1) * (len(rows) - 1) * (len(columns) - 1), 0

        def count() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        with ExitStack() as stack:
            pool = None
            if self.threads > 1 and total > len(self.stages) + 1:
                pool = stack.enter_context(ThreadPoolExecutor(self.threads))
            features, moments = self._encode(x, Sweep(rows, columns, pool, count), before)
            del x
            out = self._decode(features, moments, parameters, Sweep(rows, columns, pool, count), before)
        return np.ascontiguousarray(out[:, :height, :width].transpose(1, 2, 0))

    def _uses_statistics(self, stage: int) -> bool:
        return stage < len(self.stages) and bool(self.stages[stage]["uses_statistics"])

    def _encode(
        self, x: np.ndarray, sweep: Sweep, before: FramesBefore | None
    ) -> tuple[np.ndarray, Moments | None]:
        """Planes [3,H,W] -> features [C,h,w] for the first stage, and their moments."""
        session = self._session("encode")

        def run(part: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
            return _run(session, {"content": part, "origin": np.array(origin, np.int64)})

        measured = self._uses_statistics(0)
        if before is None:
            return sweep(x, run, self.about["encoder_margin"], with_moments=measured)
        features, _ = sweep(x, run, self.about["encoder_margin"])
        features = before.blend_features(x, features)
        return features, measure(features) if measured else None

    def _decode(
        self,
        x: np.ndarray,
        moments: Moments | None,
        parameters: np.ndarray,
        sweep: Sweep,
        before: FramesBefore | None,
    ) -> np.ndarray:
        """Features [C,h,w] and their moments -> uint8 [3,H,W]."""
        for stage, about in enumerate(self.stages):
            if moments is not None and before is not None:
                moments = before.smooth_moments(stage, moments)
            session = self._session(f"stage{stage}")
            start, stop = about["parameters"]
            feed = {"parameters": parameters[None, start:stop]} | _statistics(moments)
            wanted = {put.name for put in session.get_inputs()}
            feed = {name: value for name, value in feed.items() if name in wanted}
            last = stage + 1 == len(self.stages)
            run = _stage_runner(session, feed, to_bytes=last)
            x, moments = sweep(x, run, about["reach"], with_moments=self._uses_statistics(stage + 1))
        return x


def mix(parameters: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Sum of weight * parameters [P]; the weights have the sum 1."""
    mixed = np.zeros_like(parameters[0], dtype=np.float64)
    for vector, weight in zip(parameters, weights, strict=True):
        mixed += weight * vector.astype(np.float64)
    return mixed.astype(np.float32)


def check_sizes(size: int | None, tile: int | None) -> None:
    """Raise WrongUsage for a short side below 16 pixels, or a tile that is no multiple of 8 from 16 on."""
    if size is not None and size < MIN_SIDE:
        raise WrongUsage(f"size {size}: expected at least {MIN_SIDE} pixels")
    if tile is not None and (tile < 16 or tile % 8):
        near = max(round(tile / 8), 2) * 8
        raise WrongUsage(f"tile {tile}: expected a multiple of 8 pixels from 16 on, try {near}")


def _statistics(moments: Moments | None) -> dict[str, np.ndarray]:
    """The inputs of a stage that describe the whole map."""
    if moments is None:
        return {}
    return {
        "mean": moments.mean.astype(np.float32)[None, :, None, None],
        "variance": moments.variance.astype(np.float32)[None, :, None, None],
        "pixels": np.array([moments.pixels], np.float32),
    }


def _stage_runner(
    session: Any, feed: dict[str, np.ndarray], *, to_bytes: bool
) -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
    """A function for `Sweep` that runs one stage; to_bytes: float in [0,1] -> uint8."""

    def run(part: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
        result = _run(session, {"x": part, **feed})
        return to_pixels(result[0]).transpose(2, 0, 1)[None] if to_bytes else result

    return run


def _run(session: Any, feed: dict[str, np.ndarray]) -> np.ndarray:
    """The output of a network; MemoryError or LiteError where it cannot be computed."""
    try:
        return session.run(None, feed)[0]
    except MemoryError:
        raise
    except Exception as error:  # of onnxruntime's own types, which it does not export
        if "alloc" in str(error).lower():  # std::bad_alloc, or "Failed to allocate"
            raise MemoryError from error
        reason = str(error).partition("\n")[0]
        raise LiteError(
            f"the model cannot be computed: {reason}; expected a network of `ganmod export --stages`, and "
            "memory enough: try --tile 128 or a smaller --size"
        ) from error


def _open_session(path: Path, threads: int) -> Any:
    """Load a network. One thread: it runs in several threads at a time, a tile in each.

    No arena: it would keep the largest maps of every network.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED  # the file's, to save memory
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # costs others' cores
    options.log_severity_level = 4  # errors are raised
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
