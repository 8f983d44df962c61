"""How far a run is and when it ends: images, seconds, the request to stop, the progress bar."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any

import torch
from tqdm import tqdm

from configs.sections import AnySchedule
from ganmod import distributed
from ganmod.errors import GanmodError


class StoppedBySignal(GanmodError):
    """SIGTERM or SIGINT: a checkpoint is written, the same command continues."""

    exit_code = 3


def every(kimg: float, batch_size: int, step: int) -> bool:
    """Whether what is due every `kimg` thousand images is due before this step."""
    return step % max(round(kimg * 1000 / batch_size), 1) == 0


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
    seconds where `minutes` ends the run, as the images it will reach are unknown then.
    """

    def __init__(
        self,
        schedule: AnySchedule,
        device: torch.device,
        *,
        batch_size: int,
        resumed_state: Mapping[str, Any] | None = None,
        show: bool | None = None,
    ) -> None:
        """Begin at image 0, or where a checkpoint was written.

        Args:
            schedule: length, time budget, and how often checkpoints are due.
            device: where the processes exchange flags.
            batch_size: images of a step, over all processes.
            resumed_state: the state of a checkpoint to continue from.
            show: False hides the bar; None shows it in a terminal.
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

    def show(self, **values: float) -> None:
        """Some values beside the bar."""
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
