"""Steps until a deadline, on one device: the loop of every released model, and what its steps share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ganmod.cli.bench.timing import synchronize
from training.run.nonfinite import NonFiniteError

REPORT_SECONDS = 10.0
WAIT_STEPS = 8  # between two waits for the device
GRAPH_WARMUP = 3  # steps before a graph is captured: libraries choose their algorithms there

Log = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class JobOptions:
    """What a job is given besides its inputs.

    Attributes:
        begin: of time.monotonic.
        minutes: from `begin` to the end of all.
        reserve: seconds of them for the evaluation.
        device: on which everything lies.
        steps: end the training earlier.
        changes: {dotted key: value} of the job's configuration.
        graph: on CUDA, run steps as CUDA graphs where they can be captured.
        log: receives a line at a time.
    """

    begin: float
    minutes: float
    device: torch.device
    reserve: float = 60.0
    steps: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    graph: bool = True
    log: Log = print

    @property
    def deadline(self) -> float:
        """The end of the training, of time.monotonic."""
        return self.begin + self.minutes * 60 - self.reserve

    @property
    def elapsed(self) -> float:
        """Seconds since `begin`."""
        return time.monotonic() - self.begin

    def say(self, text: str) -> None:
        """Log a line with the seconds since `begin`."""
        self.log(f"{self.elapsed:.0f} s: {text}")


@dataclass(frozen=True)
class Trained:
    """What a training took; left_out: steps in which a gradient was not finite. losses: last reported."""

    steps: int
    images: int
    seconds: float
    left_out: int
    losses: dict[str, float]

    def figures(self) -> dict[str, Any]:
        """The same with the speed, for JSON."""
        speed = {
            "images_per_second": round(self.images / self.seconds, 1),
            "seconds_per_kimg": round(1000 * self.seconds / self.images, 3),
        }
        return asdict(self) | {"seconds": round(self.seconds, 1)} | speed


def train_until(
    step: Callable[[int], tuple[Tensor, Tensor]],
    names: Sequence[str],
    *,
    batch_size: int,
    device: torch.device,
    deadline: float,
    steps: int | None,
    log: Log,
) -> Trained:
    """Call `step` until the deadline (of time.monotonic), or for `steps`; log a line every REPORT_SECONDS.

    step: images seen before -> the losses [len(names)], and whether all gradients were finite (bool []), both
    on the device. Raises NonFiniteError where no step of REPORT_SECONDS, or none at all, had finite
    gradients; the fewer steps after the last report may all be without, and its losses are kept. Raises
    ValueError without time or steps.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}, expected 1 or more")
    begin = last_report = time.monotonic()
    if begin >= deadline:
        raise ValueError("no time is left for training: give more --minutes, or a smaller --reserve")
    sums, finite = torch.zeros(len(names), device=device), torch.zeros([], device=device)
    done = reported = left_out = 0
    losses: dict[str, float] = {}
    while True:
        now = time.monotonic()
        ended = done > 0 and (now >= deadline or done == steps)
        is_full = now - last_report >= REPORT_SECONDS and done > reported
        if ended or is_full:
            num, good = done - reported, int(finite)  # waits for the device
            if good == 0 and (is_full or not losses):
                raise NonFiniteError(
                    f"gradients were not finite in all of the {num} steps before step {done}: "
                    "lower the learning rates (--set, keys of `optimizer`)"
                )
            now = time.monotonic()
            if good > 0:
                losses = dict(zip(names, (sums / good).tolist(), strict=True))
                shown = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            else:
                shown = f"gradients were not finite in the last {num} steps, which are left out"
            rate, images = num / (now - last_report), done * batch_size
            log(
                f"{now - begin:5.0f} s  step {done}  {rate:.2f} steps/s  {images / 1000:.1f} kimg  "
                f"{rate * batch_size:.0f} images/s  {shown}"
            )
            left_out += num - good
            sums.zero_()
            finite.zero_()
            reported, last_report = done, now
        if ended:
            return Trained(done, images, now - begin, left_out, losses)
        values, ok = step(done * batch_size)
        sums += torch.where(ok, values, 0.0)
        finite += ok
        done += 1
        if done % WAIT_STEPS == 0:  # else steps in the device's queue would outlast the deadline
            synchronize(device)


class FlatGradients:
    """The gradients of all parameters as parts of one tensor: what is done to all is one operation."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        start = 0
        for p in parameters:  # strides as the parameter's: the fused optimizers count on that
            p.grad = self.flat.as_strided(p.shape, p.stride(), start)
            start += p.numel()

    def clip_(self, max_norm: float | None) -> Tensor:
        """Bring the norm down to max_norm, those that are not finite to 0 -> bool []: were they finite?"""
        norm = self.flat.norm()
        finite = norm.isfinite()
        scale = 1.0 if max_norm is None else (max_norm / (norm + 1e-6)).clamp_max(1)
        self.flat.copy_(torch.where(finite, self.flat * scale, 0.0))
        return finite


def captured(function: Callable[[], T], log: Log = print) -> Callable[[], T] | None:
    """`function` as one CUDA graph, whose many small kernels start without Python; None if that fails.

    A call returns the tensors of the capture, with new values. Random numbers come from torch's default
    generator, which goes on from call to call; what is to be another input must be written into the tensors
    that the function reads.
    """
    try:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(GRAPH_WARMUP):
                function()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = function()
    except RuntimeError as error:
        log(f"no CUDA graph ({str(error).splitlines()[0]}): steps are started one by one")
        return None

    def replay() -> T:
        graph.replay()
        return results

    return replay
