"""How far a run is and when it ends: images, seconds, the request to stop, the progress bar."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

import torch
from tqdm import tqdm

from configs.sections import AnySchedule
from ganmod import distributed
from ganmod.errors import GanmodError

PLAIN_SECONDS = 30  # between two lines of progress where there is no terminal


class StoppedBySignal(GanmodError):
    """SIGTERM or SIGINT: a checkpoint is written, the same command continues."""

    exit_code = 3


def every(kimg: float, batch_size: int, step: int) -> bool:
    """Whether what is due every `kimg` thousand images is due before this step."""
    return step % max(round(min(kimg * 1000, 1e15) / batch_size), 1) == 0


def duration(seconds: float) -> str:
    """Rounded to what one reads: "40 s", "12 min", "3.5 h", "4 days"."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{1 if name == 'h' else 0}f} {name}"
    return f"{seconds / 86400:.0f} days"


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


class RunProgress:
    """How far a run has come: nimg images in whole steps, seconds of training; whether it is to end.

    A context, in which SIGTERM and SIGINT ask for the end instead of killing. Its bar counts images, or
    seconds where `minutes` ends the run, as the images it will reach are unknown then. Without a terminal
    there is a line every PLAIN_SECONDS instead. The first tick, or half a minute, tells pace and end.
    """

    def __init__(
        self,
        schedule: AnySchedule,
        device: torch.device,
        *,
        batch_size: int,
        resumed_state: Mapping[str, Any] | None = None,
        show: bool | None = None,
        log: Callable[..., None] = lambda message, *, echo=True: None,
    ) -> None:
        """Begin at image 0, or where a checkpoint was written.

        Args:
            schedule: length, time budget, and how often checkpoints are due.
            device: where the processes exchange flags.
            batch_size: images of a step, over all processes.
            resumed_state: the state of a checkpoint to continue from.
            show: False hides the bar and the lines; None shows the bar in a terminal.
            log: `RunFolder.log`; gets the line that tells pace and end, and one at every `show`.
        """
        self.batch_size, self.device = batch_size, device
        self.nimg: int = 0 if resumed_state is None else resumed_state["nimg"]
        self.seconds: float = 0.0 if resumed_state is None else resumed_state["seconds"]
        self.done = self.stopping = False
        self.failure: Exception | None = None
        self._schedule = schedule
        self._saved_at = time.monotonic()  # of the last checkpoint; of the start, before there is one
        self._has_checkpoint = resumed_state is not None
        self._save_now = False
        self.total_nimg = max(round(schedule.total_kimg * 1000 / batch_size), 1) * batch_size
        self._clock = time.process_time if schedule.clock == "cpu" else time.monotonic
        self._begin = 0.0
        self._timed = schedule.minutes is not None
        self._budget = math.inf if schedule.minutes is None else schedule.minutes * 60
        self._stop_request = StopRequest()
        self.bar = tqdm(
            total=round(self._budget) if self._timed else self.total_nimg,
            initial=int(self.seconds) if self._timed else self.nimg,
            unit="s" if self._timed else "img",
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} s{postfix}" if self._timed else None,
            disable=True if show is False else None,
        )
        self._plain = show is not False and self.bar.disable
        self._log = log
        self._told = False
        self._values = ""
        self._first_nimg, self._first_seconds = self.nimg, self.seconds
        self._started_at = self._told_at = time.monotonic()

    def __enter__(self) -> RunProgress:
        self._stop_request.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_request.__exit__(kind, error, trace)
        self.bar.close()

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self.nimg // self.batch_size

    @property
    def ended(self) -> bool:
        """Whether there is no further step."""
        return self.done or self.stopping

    @property
    def interrupted(self) -> bool:
        """Whether the run is asked to stop before it is done."""
        return self.stopping and not self.done

    def should_stop(self) -> bool:
        """Whether there is no further step; sets `done` and `stopping`.

        All processes call this before each step, and get the same answer.
        """
        self.done = self.nimg >= self.total_nimg or distributed.agree(
            self.seconds >= self._budget, self.device
        )
        stop = bool(self._stop_request) or self.failure is not None
        self.stopping = distributed.agree(stop, self.device)
        minutes = (time.monotonic() - self._saved_at) / 60
        self._save_now = distributed.agree(minutes >= self._schedule.checkpoint_minutes, self.device)
        return self.ended

    def fail(self, error: Exception) -> None:
        """Stop before the next step, with a checkpoint; the error is raised in the end."""
        self.failure = error

    def checkpoint_due(self) -> bool:
        """Whether to write a checkpoint now: at the first log line, by images, by time, and in the end.

        To be called once a step, after `should_stop`; the answer is the same on all processes.
        """
        schedule = self._schedule
        first = not self._has_checkpoint and self.due(schedule.log_kimg)
        by_time = self._save_now and self.nimg > 0
        due = self.ended or first or by_time or self.due(schedule.checkpoint_kimg)
        if due:
            self._saved_at, self._has_checkpoint = time.monotonic(), True
        return due

    def due(self, kimg: float) -> bool:
        """Whether what is due every `kimg` thousand images, and in the end, is due now."""
        last = self.done or self.nimg >= self.total_nimg
        return self.nimg > 0 and (last or every(kimg, self.batch_size, self.step))

    def begin_step(self) -> None:
        """Start the clock: saving and measuring take no training time."""
        self._begin = self._clock()

    def end_step(self) -> None:
        """Count the step's images and seconds."""
        self.nimg += self.batch_size
        self.seconds += self._clock() - self._begin
        self.bar.update((min(int(self.seconds), self.bar.total) if self._timed else self.nimg) - self.bar.n)
        self._tell()

    def show(self, **values: float) -> None:
        """Some values beside the bar, on the next line of progress, and in the log."""
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
        self._values = "".join(f", {name} {value:.3f}" for name, value in values.items())
        self._log(self.describe() + self._values, echo=False)

    @property
    def wall_seconds_per_kimg(self) -> float:
        """Wall time of a thousand images in this process, saving and measuring too; nan before any."""
        images = self.nimg - self._first_nimg
        return (time.monotonic() - self._started_at) / images * 1000 if images else math.nan

    @property
    def seconds_left(self) -> float:
        """Wall time to the end at the pace so far, by images or by `minutes`; nan before the first step."""
        by_images = (self.total_nimg - self.nimg) / 1000 * self.wall_seconds_per_kimg
        spent = self.seconds - self._first_seconds
        if not self._timed or spent <= 0:
            return by_images
        wall_per_second = (time.monotonic() - self._started_at) / spent
        return min(by_images, max(self._budget - self.seconds, 0) * wall_per_second)

    def describe(self) -> str:
        """How far the run is, its pace and the time to the end, as one line."""
        return (
            f"{self.nimg / 1000:.3g} of {self.total_nimg / 1000:.3g} kimg, "
            f"{self.wall_seconds_per_kimg:.3g} s/kimg, {duration(self.seconds_left)} to the end"
        )

    def _tell(self) -> None:
        """The line about the pace, once; without a terminal a line of progress now and then."""
        now = time.monotonic()
        waited = now - self._told_at >= PLAIN_SECONDS
        if not self._told and (waited or self.due(self._schedule.log_kimg)):
            ended = self.nimg >= self.total_nimg
            self._log(self.describe() + ("" if ended else f"; {self._next_picture()}"))
            self._told, self._told_at = True, now
        elif waited and self._plain:
            print(self.describe() + self._values, file=sys.stderr)
            self._told_at = now

    def _next_picture(self) -> str:
        """When the next pictures are written: at the next snapshot, or in the end."""
        every_nimg = max(round(self._schedule.snapshot_kimg * 1000 / self.batch_size), 1) * self.batch_size
        at = min((self.nimg // every_nimg + 1) * every_nimg, self.total_nimg)
        seconds = (at - self.nimg) / 1000 * self.wall_seconds_per_kimg
        if seconds >= self.seconds_left:
            return f"pictures in the end, in {duration(self.seconds_left)}"
        return f"next pictures at {at / 1000:.3g} kimg, in {duration(seconds)}"
