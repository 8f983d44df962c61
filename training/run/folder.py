"""The run folder: its lock, configuration, log, statistics, sample grids, TensorBoard."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from ganmod.io.atomic_write import append_bytes, atomic_write_text, full_disks_named, remove_temporaries
from ganmod.io.images import make_grid, write_image
from training.run.lock import RunLock

if TYPE_CHECKING:
    from training.run.event_file import EventFile

CONFIG_FILE = "config.yaml"
CHANGES_FILE = "changes.jsonl"
MODEL_FILE, BEST_FILE = "model-latest.safetensors", "model-best.safetensors"
GRIDS = ("stylized", "fakes", "latents", "references")
LEFT_BY_A_RUN = (
    CONFIG_FILE,
    CHANGES_FILE,
    "log.txt",
    "stats.jsonl",
    "metrics.jsonl",
    "events.out.tfevents.*",
    "reals.png",
    *(f"{grid}-{'[0-9]' * digits}.png" for grid in GRIDS for digits in (6, 9)),  # 6: of earlier versions
    MODEL_FILE,
    BEST_FILE,
    "checkpoint-*.pt*",  # last: while there are any, the run is still there
)


class RunFolder:
    """Files of one run. Every process has one; only the first (`active`) writes, and holds the lock."""

    def __init__(self, path: str | Path, *, active: bool = True, tensorboard: bool = True) -> None:
        """Take the folder, which is made; RunLockedError while another process has it.

        Args:
            path: the folder.
            active: False in all processes but the first.
            tensorboard: whether to write its events.
        """
        self.path = Path(path)
        self.active = active
        self._lock: RunLock | None = None
        self._tensorboard = tensorboard
        self._events: EventFile | None = None
        self._early_lines: list[str] | None = []
        if active:
            with full_disks_named(self.path, None):
                self.path.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(self.path, report=lambda message: print(message, file=sys.stderr))
            remove_temporaries(self.path)

    def begin(self, nimg: int) -> None:
        """Continue at `nimg` images: drop the lines that the run writes again, open TensorBoard's file."""
        if not self.active:
            return
        self._drop_lines_after(nimg)
        self._early_lines = None
        if self._tensorboard:
            from training.run.event_file import EventFile

            self._events = EventFile(self.path, nimg=nimg)

    def save_config(self, text: str) -> None:
        """Write the configuration."""
        if self.active:
            atomic_write_text(self.path / CONFIG_FILE, text)

    def save_changes(self, changes: Sequence[Mapping[str, Any]]) -> None:
        """Write changes.jsonl, a line for each key that was changed; no file without any."""
        if self.active and (changes or (self.path / CHANGES_FILE).exists()):
            text = "".join(json.dumps(change) + "\n" for change in changes)
            atomic_write_text(self.path / CHANGES_FILE, text)

    def log(self, message: str, *, echo: bool = True) -> None:
        """One line to log.txt and, with `echo`, to the terminal (stderr), above a bar."""
        if self.active:
            if echo:
                tqdm.write(message, file=sys.stderr)
            if self._early_lines is not None:
                self._early_lines.append(message)
            append_bytes(self.path / "log.txt", f"{message}\n".encode())

    def write_stats(self, nimg: int, stats: dict[str, float]) -> None:
        """One line of stats.jsonl, null for what is not finite; the same values to TensorBoard."""
        plain = {name: value if math.isfinite(value) else None for name, value in stats.items()}
        self._write_line("stats.jsonl", {"nimg": nimg, **plain})
        if self._events is not None:
            self._events.add_scalars(stats, nimg)

    def write_metrics(
        self, nimg: int, values: Mapping[str, float], conditions: Mapping[str, str | int | None]
    ) -> None:
        """One line of metrics.jsonl, with all that two values must share to be compared.

        It replaces that of a run that was killed right after it measured.
        """
        if self.active and self.read_metrics(nimg, conditions):
            self._keep_lines(
                "metrics.jsonl", lambda line: line["nimg"] != nimg or line.get("conditions") != conditions
            )
        self._write_line("metrics.jsonl", {"nimg": nimg, **values, "conditions": conditions})
        if self._events is not None:
            self._events.add_scalars({f"metrics/{name}": value for name, value in values.items()}, nimg)

    def read_metrics(self, nimg: int, conditions: Mapping[str, str | int | None]) -> dict[str, Any]:
        """What was measured at `nimg` images under the same conditions; empty if nothing was."""
        lines = [line for _, line in self._lines("metrics.jsonl") if line and line["nimg"] == nimg]
        return next((line for line in reversed(lines) if line.get("conditions") == conditions), {})

    def _write_line(self, name: str, record: Mapping[str, Any]) -> None:
        if self.active:
            append_bytes(self.path / name, (json.dumps(record) + "\n").encode())

    def set_aside(self, *, keep: bool) -> None:
        """Move what an earlier run left, if anything, to DIR.old-N; keep=False: remove it instead."""
        files = find_earlier_run(self.path) if self.active else []
        if all(file.name == "log.txt" for file in files):  # of this start
            return
        old = next_old_folder(self.path)
        if keep:
            old.mkdir()
        for file in files:
            if keep:
                file.replace(old / file.name)
            else:
                file.unlink(missing_ok=True)
        lines = "".join(f"{line}\n" for line in self._early_lines or ())  # of this start, too
        append_bytes(self.path / "log.txt", lines.encode())
        if keep:
            self.log(f"the earlier run was moved to {old}")

    def _drop_lines_after(self, nimg: int) -> None:
        """Drop the lines that the continued run writes again.

        So are lines that are no record, as a power cut leaves them; the log says how many.
        """
        for name in ("stats.jsonl", "metrics.jsonl"):
            num_damaged = sum(record is None for _, record in self._lines(name))
            if num_damaged:
                lines = "line" if num_damaged == 1 else "lines"
                self.log(f"{self.path / name}: left out {num_damaged} damaged {lines}")
            self._keep_lines(name, lambda record: record["nimg"] <= nimg)

    def _lines(self, name: str) -> list[tuple[str, dict[str, Any] | None]]:
        """The lines of a file of records, each as text and as what it says, None for a damaged one."""
        try:
            text = (self.path / name).read_text(errors="replace")
        except FileNotFoundError:
            return []
        return [(line, _record(line)) for line in text.splitlines()]

    def _keep_lines(self, name: str, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Rewrite a file of records, if there is one, with those that `keep` wants."""
        if (self.path / name).exists():
            kept = [line for line, record in self._lines(name) if record and keep(record)]
            atomic_write_text(self.path / name, "".join(f"{line}\n" for line in kept))

    def write_grid(self, name: str, rows: list[list[np.ndarray]], *, nimg: int) -> None:
        """`write_picture` of a snapshot: NAME-IMAGES.png, numbered as checkpoints are.

        name: one of GRIDS.
        """
        self.write_picture(f"{name}-{nimg:09d}", rows, nimg=nimg)

    def write_picture(self, name: str, rows: list[list[np.ndarray]], *, nimg: int) -> None:
        """A picture of rows of uint8 images: NAME.png, and in TensorBoard."""
        if self.active:
            grid = make_grid(rows)
            write_image(self.path / f"{name}.png", grid)
            if self._events is not None:
                self._events.add_image(name.split("-")[0], grid, nimg)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock is not None:
            self._lock.release()


def find_earlier_run(folder: Path) -> list[Path]:
    """The files of a run in a folder, its checkpoints last; a user's own files are not among them."""
    return [file for pattern in LEFT_BY_A_RUN for file in sorted(folder.glob(pattern))]


def next_old_folder(folder: Path) -> Path:
    """DIR.old-N with the first N that is free: where an earlier run is moved."""
    folder = folder.resolve()
    numbered = (folder.with_name(f"{folder.name}.old-{n}") for n in itertools.count(1))
    return next(path for path in numbered if not path.exists())


def _record(line: str) -> dict[str, Any] | None:
    """A line of stats.jsonl or metrics.jsonl; None for a damaged one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("nimg"), int) else None
