"""Memory and time of stylising: images at once and in tiles, and the frames of a clip.

Every measurement runs in a new process, for its peak of memory; the forms of a comparison take turns. The
model is loaded and the style's parameters are predicted before.
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
from ganmod.errors import GanmodError
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
    """One measurement.

    width: slim, the shipped model; full, VGG-19's widths with random weights.
    form: an image at once, an image in tiles of `tile` pixels, or frames of a clip.
    rows, columns: size of the image in pixels.
    bfloat16: of clips; otherwise float32.
    repeats: timed runs, after a warm-up run if `warm`.
    threads: 0 is torch's choice.
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
class Measurement:
    """Time and memory of an image or a frame.

    Attributes:
        seconds: wall clock.
        processor_seconds: minimum over the runs of the time on all cores, which other work hardly changes.
        peak_mib: peak memory of the process; on a GPU, allocated by torch.
        before_mib: the same before stylising; None where the system does not report it.
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


def measure(case: Case) -> Measurement:
    """Measure in this process; the peak of memory counts from the start of the process."""
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
    return Measurement(
        case, min(times), statistics.median(times), min(processor_times), before, _peak_mib(device)
    )


def measure_in_new_process(case: Case) -> Measurement:
    """`measure` in a new process; GanmodError with the last line of its stderr if it fails."""
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
        raise GanmodError(f"measuring {case} failed: {last}; if memory is short, lower --size")
    fields = json.loads(done.stdout.splitlines()[-1])
    names = ("seconds_min", "seconds_median", "processor_seconds", "before_mib", "peak_mib")
    return Measurement(case, *(fields[name] for name in names))


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
) -> list[Measurement]:
    """Measure square images, in tiles and at once.

    Args:
        widths: of the models.
        sizes: sides of the images in pixels.
        tile: side of a tile.
        whole_up_to: largest side that is also measured without tiles.
        repeats: timed runs.
        threads: 0 is torch's choice.
        device: cpu or cuda.
        progress: called after each measurement.
    """
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
                rows.append(measure_in_new_process(case))
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
) -> list[Measurement]:
    """Measure frames of a clip, as `ganmod stylize` computes them, without reading and writing.

    Args:
        widths: of the models.
        shapes: (rows, columns) of the frames.
        precisions: False for float32, True for bfloat16.
        repeats: timed runs.
        threads: 0 is torch's choice.
        device: cpu or cuda.
        progress: called after each measurement.
    """
    rows = []
    for width in widths:
        for shape in shapes:
            for bfloat16 in precisions:
                case = Case(
                    width, "clip", *shape, bfloat16=bfloat16, repeats=repeats, threads=threads, device=device
                )
                rows.append(measure_in_new_process(case))
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
