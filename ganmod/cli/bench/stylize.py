"""Memory and time of stylising: images whole and by tiles, and the frames of a clip.

Every measurement has a process of its own, so that the peak of its memory is its own; the forms of a
comparison take turns. The model is loaded and the style's parameters are predicted before.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

import style_transfer
from ganmod.cli.bench.style import random_model
from ganmod.cli.bench.timing import Advance
from ganmod.features.vgg import VGG19_WIDTHS
from ganmod.io.images import resize
from ganmod.machine import peak_memory_mb
from style_transfer import StyleTransferModel
from style_transfer.piecewise.tiled import stylize_tiled
from style_transfer.piecewise.video import ClipStylizer
from style_transfer.procedural_styles import builtin_contents, draw_style

Width = Literal["slim", "full"]
Form = Literal["whole", "tiled", "clip"]
FULL_STYLE_DIM, FULL_STYLE_SIZE = 512, 256


@dataclass(frozen=True)
class Case:
    """What is measured. width: slim, the shipped model; full, VGG-19's widths with random weights.

    form: an image whole, an image by tiles of `tile` pixels, or frames of a clip, in bfloat16 if asked for.
    repeats: timed runs, after one that warms up where `warm`. threads: 0 is torch's choice.
    """

    width: Width
    form: Form
    rows: int
    columns: int
    tile: int = 0
    bfloat16: bool = False
    repeats: int = 3
    warm: bool = True
    threads: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, value, known in (("width", self.width, Width), ("form", self.form, Form)):
            if value not in get_args(known):
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(get_args(known))}")


@dataclass(frozen=True)
class Measured:
    """Time and memory of an image or a frame.

    Attributes:
        seconds: wall clock.
        processor_seconds: the least that the process took of all cores, which other work hardly changes.
        peak_mib: the most memory that the process has held; on a GPU what torch has allocated.
        before_mib: the same when it began to stylise; None where the system does not report it.
    """

    case: Case
    seconds_min: float
    seconds_median: float
    processor_seconds: float
    before_mib: float | None
    peak_mib: float | None

    @property
    def frames_per_second(self) -> float:
        return 1 / self.seconds_min

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"frames_per_second": self.frames_per_second}


def measure(case: Case) -> Measured:
    """Measure in this process: its peak of memory counts from its start."""
    if case.threads:
        torch.set_num_threads(case.threads)
    device = torch.device(case.device)
    model = _model(case.width).to(device)
    params = model.predict_style(draw_style("brush_strokes"))
    content = resize(next(iter(builtin_contents().values())), (case.rows, case.columns))
    before = _peak_mib(device)
    run: Callable[[], object]
    if case.form == "whole":
        run = lambda: model.apply_params(content, params)  # noqa: E731
    elif case.form == "tiled":
        run = lambda: stylize_tiled(model, content, params, tile=case.tile)  # noqa: E731
    else:
        stylizer = ClipStylizer(model, dtype=torch.bfloat16 if case.bfloat16 else None)
        run = lambda: stylizer(content, params)  # noqa: E731
    times, processor_times = [], []
    for i in range(case.repeats + case.warm):
        begin, processor = time.perf_counter(), time.process_time()
        run()  # ends with a copy to the CPU, which waits for a GPU
        if i >= case.warm:
            times.append(time.perf_counter() - begin)
            processor_times.append(time.process_time() - processor)
    return Measured(
        case, min(times), statistics.median(times), min(processor_times), before, _peak_mib(device)
    )


def measure_apart(case: Case) -> Measured:
    """`measure` in a process of its own. RuntimeError with its last words if it fails, as without memory."""
    root = str(Path(__file__).parents[3])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "ganmod.cli.bench.stylize", json.dumps(asdict(case))],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
        raise RuntimeError(f"measuring {case} failed: {last}")
    fields = json.loads(done.stdout.splitlines()[-1])
    names = ("seconds_min", "seconds_median", "processor_seconds", "before_mib", "peak_mib")
    return Measured(case, *(fields[name] for name in names))


def measure_images(
    widths: Sequence[Width],
    sizes: Sequence[int],
    *,
    tile: int,
    whole_up_to: int,
    repeats: int = 1,
    threads: int = 0,
    device: str = "cpu",
    progress: Advance = lambda: None,
) -> list[Measured]:
    """Square images of these sides in pixels by tiles, and whole up to `whole_up_to` pixels."""
    rows = []
    for width in widths:
        for size in sizes:
            forms: list[Form] = ["whole", "tiled"] if size <= whole_up_to else ["tiled"]
            for form in forms:
                case = Case(
                    width,
                    form,
                    size,
                    size,
                    tile=tile if form == "tiled" else 0,
                    repeats=repeats,
                    warm=False,
                    threads=threads,
                    device=device,
                )
                rows.append(measure_apart(case))
                progress()
    return rows


def measure_frames(
    widths: Sequence[Width],
    shapes: Sequence[tuple[int, int]],
    *,
    precisions: Sequence[bool],
    repeats: int = 3,
    threads: int = 0,
    device: str = "cpu",
    progress: Advance = lambda: None,
) -> list[Measured]:
    """Frames (rows, columns) of a clip, as `ganmod stylize` computes them, without reading and writing.

    precisions: False for float32, True for bfloat16.
    """
    rows = []
    for width in widths:
        for shape in shapes:
            for bfloat16 in precisions:
                case = Case(
                    width, "clip", *shape, bfloat16=bfloat16, repeats=repeats, threads=threads, device=device
                )
                rows.append(measure_apart(case))
                progress()
    return rows


def _model(width: Width) -> StyleTransferModel:
    if width == "slim":
        return style_transfer.load()
    return random_model(VGG19_WIDTHS, style_dim=FULL_STYLE_DIM, size=FULL_STYLE_SIZE).eval()


def _peak_mib(device: torch.device) -> float | None:
    peak = peak_memory_mb(device)
    return None if math.isnan(peak) else peak


if __name__ == "__main__":
    print(json.dumps(measure(Case(**json.loads(sys.argv[1]))).to_dict()))
