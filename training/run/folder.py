"""The run folder: configuration, log, statistics, sample grids, TensorBoard."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ganmod.io.atomic_write import atomic_write_text
from ganmod.io.images import make_grid, write_image

CONFIG_FILE = "config.yaml"
MODEL_FILE, BEST_FILE = "model-latest.safetensors", "model-best.safetensors"
GRIDS = "*-[0-9][0-9][0-9][0-9][0-9][0-9].png"  # not "*.png": a user may keep pictures there
LEFT_BY_A_RUN = (
    "checkpoint-*.pt*",
    "model-*.safetensors",
    "stats.jsonl",
    "metrics.jsonl",
    "reals.png",
    GRIDS,
)


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
            (self.path / CONFIG_FILE).write_text(text)

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
        """On resume: drop the lines that the continued run writes again, metrics at `nimg` among them.

        So are lines that are no record, as a full disk or a power cut leaves them; the log says how many.
        """
        for name, last in (("stats.jsonl", nimg), ("metrics.jsonl", nimg - 1)):
            file = self.path / name
            if not self.active or not file.exists():
                continue
            records = [(line, _record(line)) for line in file.read_text(errors="replace").splitlines()]
            num_damaged = sum(record is None for _, record in records)
            if num_damaged:
                self.log(f"{file}: left out {num_damaged} damaged line{'s' if num_damaged > 1 else ''}")
            text = "".join(line + "\n" for line, record in records if record and record["nimg"] <= last)
            atomic_write_text(file, text)

    def write_grid(self, name: str, rows: list[list[np.ndarray]], *, nimg: int) -> None:
        """`write_picture` of a snapshot: NAME-KIMG.png."""
        self.write_picture(f"{name}-{nimg // 1000:06d}", rows, nimg=nimg)

    def write_picture(self, name: str, rows: list[list[np.ndarray]], *, nimg: int) -> None:
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


def _record(line: str) -> dict[str, Any] | None:
    """A line of stats.jsonl or metrics.jsonl; None for a damaged one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("nimg"), int) else None
