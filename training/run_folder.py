"""The run folder: configuration, log, statistics, sample grids, TensorBoard; the request to stop."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TextIO

import numpy as np
from pydantic import BaseModel
from tqdm import tqdm

from configs.sections import AnySchedule
from ganmod.images import make_grid, write_image

GRIDS = "*-[0-9][0-9][0-9][0-9][0-9][0-9].png"  # not "*.png": a user may keep pictures there
LEFT_BY_A_RUN = (
    "checkpoint-*.pt*",
    "model-*.safetensors",
    "stats.jsonl",
    "metrics.jsonl",
    "reals.png",
    GRIDS,
)


class StoppedBySignal(Exception):
    """SIGTERM or SIGINT: a checkpoint is written, the same command continues."""


def every(kimg: float, batch_size: int, step: int) -> bool:
    """Whether what is due every `kimg` thousand images is due before this step."""
    return step % max(round(kimg * 1000 / batch_size), 1) == 0


def check_same_run(
    saved: Mapping[str, Any],
    config: BaseModel,
    *,
    sections: Sequence[str],
    also: Sequence[str] = (),
    free_to_change: Sequence[str] = (),
) -> None:
    """ValueError if a checkpoint has another configuration in these sections, these keys, batch or seed."""

    def kept(run: Mapping[str, Any]) -> dict[str, Any]:
        values = {f"{name}.{key}": value for name in sections for key, value in run[name].items()}
        values |= {key: run[key] for key in also}
        values["schedule.batch_size"] = run["schedule"]["batch_size"]
        values["runtime.seed"] = run["runtime"]["seed"]
        return {key: value for key, value in values.items() if key not in free_to_change}

    before, now = kept(saved), kept(config.model_dump(mode="json"))
    for key, value in now.items():
        if before.get(key) != value:
            raise ValueError(
                f"the run folder holds a run with {key} = {before.get(key)!r}, this command says {value!r}: "
                "use another --out, or --no-resume to begin anew"
            )


class RunProgress:
    """The clock of a run and its bar: images, or seconds where `minutes` ends it, as the images it will reach
    are unknown then.

    shown: False hides the bar; else a terminal shows it. total_nimg: images at the end, unless `minutes` come
    before. clock: seconds that count towards `minutes`.
    """

    def __init__(
        self,
        schedule: AnySchedule,
        *,
        batch: int,
        nimg: int,
        seconds: float,
        shown: bool | None,
    ) -> None:
        self.total_nimg = max(round(schedule.total_kimg * 1000 / batch), 1) * batch  # whole steps
        self.clock = time.process_time if schedule.clock == "cpu" else time.monotonic
        self.timed = schedule.minutes is not None
        self.budget = math.inf if schedule.minutes is None else schedule.minutes * 60
        self.bar = tqdm(
            total=round(self.budget) if self.timed else self.total_nimg,
            initial=int(seconds) if self.timed else nimg,
            unit="s" if self.timed else "img",
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} s{postfix}" if self.timed else None,
            disable=True if shown is False else None,
        )

    def update(self, nimg: int, seconds: float) -> None:
        """Bring the bar to where the run is."""
        self.bar.update((min(int(seconds), self.bar.total) if self.timed else nimg) - self.bar.n)


class RunFolder:
    """Files of one run. Every process has one; only the first (`active`) writes."""

    def __init__(self, path: str | Path, *, active: bool = True, tensorboard: bool = True) -> None:
        self.path = Path(path)
        self.active = active
        self._log: TextIO | None = None
        self._writer: Any = None
        if active:
            self.path.mkdir(parents=True, exist_ok=True)
            self._log = (self.path / "log.txt").open("a")
            if tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                self._writer = SummaryWriter(str(self.path))

    def save_config(self, text: str) -> None:
        if self.active:
            (self.path / "config.yaml").write_text(text)

    def log(self, message: str) -> None:
        """One line to the terminal (stderr) and to log.txt."""
        if self._log is not None:
            print(message, file=sys.stderr)
            self._log.write(message + "\n")
            self._log.flush()

    def write_stats(self, nimg: int, stats: dict[str, float]) -> None:
        """One line of stats.jsonl, null for what is not finite; the same values to TensorBoard."""
        if not self.active:
            return
        plain = {name: value if math.isfinite(value) else None for name, value in stats.items()}
        with (self.path / "stats.jsonl").open("a") as file:
            file.write(json.dumps({"nimg": nimg, **plain}) + "\n")
        if self._writer is not None:
            for name, value in stats.items():
                self._writer.add_scalar(name, value, nimg)

    def write_metrics(
        self, nimg: int, values: Mapping[str, float], conditions: Mapping[str, str | int | None]
    ) -> None:
        """One line of metrics.jsonl, with all that two values must share to be compared."""
        if not self.active:
            return
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"nimg": nimg, **values, "conditions": conditions}) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"metrics/{name}", value, nimg)

    def clear(self) -> None:
        """Remove what an earlier run left: checkpoints, models, statistics, pictures."""
        if self.active:
            for pattern in LEFT_BY_A_RUN:
                for file in self.path.glob(pattern):
                    file.unlink(missing_ok=True)

    def discard_stats_after(self, nimg: int) -> None:
        """On resume: drop the lines that the continued run writes again, metrics at `nimg` among them."""
        for name, last in (("stats.jsonl", nimg), ("metrics.jsonl", nimg - 1)):
            file = self.path / name
            if self.active and file.exists():
                lines = [line for line in file.read_text().splitlines() if json.loads(line)["nimg"] <= last]
                file.write_text("".join(line + "\n" for line in lines))

    def write_grid(self, name: str, rows: list[list[np.ndarray]], *, nimg: int) -> None:
        """A picture of rows of uint8 images: NAME.png, and in TensorBoard."""
        if self.active:
            grid = make_grid(rows)
            write_image(self.path / f"{name}.png", grid)
            if self._writer is not None:
                self._writer.add_image(name.split("-")[0], grid, nimg, dataformats="HWC")

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
        if self._writer is not None:
            self._writer.close()


class StopRequest:
    """True after SIGTERM or SIGINT, while the context is entered; a second signal acts at once."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.requested

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._previous[number])
