"""TensorBoard's file of a run, written at once: `SummaryWriter` writes in a thread that a full disk ends."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import image, scalar

from ganmod.io.atomic_write import append_bytes

EVENT_FILES = "events.out.tfevents.*"


class EventFile:
    """Scalars and images by the number of images seen, in a new file of the run folder."""

    def __init__(self, folder: Path, *, nimg: int) -> None:
        """nimg: where the run goes on; TensorBoard leaves out what earlier files have beyond it."""
        goes_on = any(folder.glob(EVENT_FILES))
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / f"{name}.{time.time_ns() % 10**9}"
        events = [Event(file_version="brain.Event:2")]
        if goes_on:  # what SummaryWriter calls purge_step: the first that is written again
            step = nimg + 1 if nimg else 0
            events.append(Event(step=step, session_log=SessionLog(status=SessionLog.START)))
        self._append(events)

    def add_scalars(self, values: Mapping[str, float], nimg: int) -> None:
        """One value per name."""
        self._append([Event(step=nimg, summary=scalar(name, value)) for name, value in values.items()])

    def add_image(self, name: str, picture: np.ndarray, nimg: int) -> None:
        """picture: uint8 [H,W,3]."""
        summary: Summary = image(name, picture, dataformats="HWC")
        self._append([Event(step=nimg, summary=summary)])

    def _append(self, events: list[Event]) -> None:
        records = io.BytesIO()
        writer = RecordWriter(records)
        for event in events:
            event.wall_time = time.time()
            writer.write(event.SerializeToString())
        append_bytes(self.path, records.getvalue())
