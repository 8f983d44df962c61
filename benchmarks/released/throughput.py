"""Speed and memory of one machine: StyleGAN2's step, the AdaConv op, stylised frames; part by part."""

from __future__ import annotations

import functools
import gc
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganmod.cli.bench.style import compare_op
from ganmod.cli.bench.stylegan2 import VARIANTS, Variant, compare_steps
from ganmod.cli.bench.stylize import Case, measure
from ganmod.cli.bench.timing import interleaved_ms
from ganmod.features.vgg import VGG19_WIDTHS
from ganmod.machine import bf16_instructions, describe_machine
from ganmod.modulation.fast import fast_adaconv
from ganmod.modulation.per_sample_conv import ConvImpl
from released.gan_job import GPU_FORMS, write_record
from released.jobs import THROUGHPUT
from released.timed_loop import Log

MODULATIONS = ("weight_demod", "adain", "adaconv")
# Memory traffic of the op in images, if each pass reads and writes what it must once: forward x and y,
# backward x, the gradients of y and of x. Kernels are a few thousandths of that.
TRANSFERS = 5
COPIED_BYTES = {"cuda": 1 << 30, "cpu": 1 << 26}


@dataclass(frozen=True)
class Plan:
    """What is measured; --set changes it.

    Attributes:
        size: side of StyleGAN2's images in pixels.
        batch: of its step.
        channel_max: of its networks.
        op_size: side of the AdaConv op's finest scale.
        op_batch: its samples.
        op_width: channels of the finest scale are 64 / op_width, as in VGG-19 for 1.
        frame: (height, width) of a stylised frame.
        repeats: timed runs of each form.
    """

    size: int = 256
    batch: int = 16
    channel_max: int = 512
    op_size: int = 256
    op_batch: int = 16
    op_width: int = 1
    frame: tuple[int, int] = (1080, 1920)
    repeats: int = 10

    def changed(self, changes: Mapping[str, Any]) -> Plan:
        """The same with some values changed; ValueError for an unknown name."""
        known = asdict(self)
        if unknown := [name for name in changes if name not in known]:
            raise ValueError(f"unknown {', '.join(unknown)}: expected some of {', '.join(known)}")
        values = {name: tuple(value) if name == "frame" else int(value) for name, value in changes.items()}
        return replace(self, **values)  # type: ignore[arg-type]

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(width // self.op_width for width in VGG19_WIDTHS)


@dataclass(frozen=True)
class Part:
    """A measurement. seconds: what it takes on a GPU at most; with less left, it is skipped."""

    name: str
    seconds: float
    run: Callable[[], Any]


def run_throughput(
    out: Path,
    *,
    begin: float,
    minutes: float,
    changes: Mapping[str, Any] | None = None,
    device: torch.device,
    log: Log = print,
) -> dict[str, Any]:
    """Measure part after part, writing throughput.json after each -> what it holds.

    minutes: from `begin` (of time.monotonic) to the end of all. Under "skipped" stand the parts for which too
    little time was left, under "failed" those that raised an error, with its message.
    """
    plan = Plan().changed(changes or {})
    deadline = begin + minutes * 60
    record: dict[str, Any] = {
        "job": THROUGHPUT,
        "machine": describe_machine(device),
        "command": shlex.join(sys.argv),
        "plan": asdict(plan),
        "results": {},
        "skipped": {},
        "failed": {},
    }
    for part in list_parts(plan, device):
        left = deadline - time.monotonic()
        if left < part.seconds:
            record["skipped"][part.name] = f"needs up to {part.seconds:g} s, {max(left, 0):.0f} s were left"
        else:
            start = time.monotonic()
            try:
                record["results"][part.name] = part.run()
            except Exception as error:  # of a compiler, or want of memory: the other parts still count
                record["failed"][part.name] = f"{type(error).__name__}: {str(error)[:300]}"
            _release(device)
            outcome = "failed" if part.name in record["failed"] else "done"
            log(
                f"{time.monotonic() - begin:.0f} s: {part.name} {outcome} in {time.monotonic() - start:.1f} s"
            )
        record["wall_seconds"] = round(time.monotonic() - begin, 1)
        write_record(out / f"{THROUGHPUT}.json", record)
    for kind in ("skipped", "failed"):
        for name, reason in record[kind].items():
            log(f"{kind}: {name}: {reason}")
    return record


def list_parts(plan: Plan, device: torch.device) -> list[Part]:
    """The measurements in the order of their worth: compiled forms, which may take minutes, come last."""
    plain, _, fast, compiled = VARIANTS
    dtypes = {"float32": torch.float32}
    if bf16_instructions(device):
        dtypes["bfloat16"] = torch.bfloat16
    else:
        fast, compiled = (
            replace(variant, name=variant.name.replace("bfloat16", "float32"), precision="float32")
            for variant in (fast, compiled)
        )
    height, width = plan.frame

    def steps(*variants: Variant) -> dict[str, Callable[[], Any]]:
        return {name: functools.partial(_steps, plan, name, variants, device) for name in MODULATIONS}

    def op(is_compiled: bool) -> Callable[[], Any]:
        return functools.partial(measure_op, plan, device, compiled=is_compiled)

    return [
        *(Part(f"stylegan2 {name}", 40, run) for name, run in steps(plain, fast).items()),
        Part("op", 30, op(False)),
        *(
            Part(f"frames {width}x{height} {name}", 20, functools.partial(_frames, plan, device, dtype))
            for name, dtype in dtypes.items()
        ),
        *(
            Part(f"op forms {name}", 30, functools.partial(measure_forms, plan, device, dtype))
            for name, dtype in dtypes.items()
        ),
        *(Part(f"stylegan2 {name} compiled", 130, run) for name, run in steps(fast, compiled).items()),
        Part("op compiled", 150, op(True)),
    ]


def _steps(plan: Plan, modulation: str, variants: tuple[Variant, ...], device: torch.device) -> list[Any]:
    """A training step in each of the variants, see `compare_steps`; times_first: speed against the first."""
    settings = {
        "augmentation.kind": "none",
        "schedule.batch_size": plan.batch,
        "model.channel_max": plan.channel_max,
    }
    rows = compare_steps(
        [modulation], variants, size=plan.size, settings=settings, repeats=plan.repeats, device=device
    )
    return [row.to_dict() | {"times_first": round(rows[0].step / row.step, 3)} for row in rows]


def measure_op(plan: Plan, device: torch.device, *, compiled: bool) -> dict[str, Any]:
    """The op against the loop, forward and backward in float32, and against the time of its memory traffic.

    roofline_ms: TRANSFERS images at the bandwidth of a copy; roofline_share: that by the measured minimum.
    """
    rows = compare_op(
        widths=plan.widths,
        batch=plan.op_batch,
        size=plan.op_size,
        repeats=plan.repeats,
        device=device,
        compiled=compiled,
    )
    bandwidth = copy_bandwidth(device)
    shapes = op_shapes(plan)
    limits = [TRANSFERS * 4 * n * c * side * side / bandwidth * 1000 for n, c, _, side in shapes]
    scales = []
    for row, limit in zip(rows, [*limits, sum(limits)], strict=True):
        shares = {"roofline_ms": limit, "roofline_share": limit / row.b_min_ms}
        scales.append(row.to_dict() | shares)
    return {"copy_gb_per_s": bandwidth / 1e9, "scales": scales}


def op_shapes(plan: Plan) -> list[tuple[int, int, int, int]]:
    """(batch, channels, group size, side) of the scales, coarse to fine, as in `compare_op`."""
    widths = plan.widths
    return [
        (plan.op_batch, c, max(widths) // c, plan.op_size >> (3 - scale))
        for scale, c in enumerate(reversed(widths))
    ]


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second that a copy within the device's memory reads and writes: the best of ten."""
    count = COPIED_BYTES["cuda" if device.type == "cuda" else "cpu"] // 4
    source, target = torch.ones(count, device=device), torch.empty(count, device=device)
    copy = lambda: target.copy_(source)  # noqa: E731
    copy()
    best = min(interleaved_ms({"copy": copy}, 10, device, lambda: None)["copy"])
    return 2 * 4 * count / (best / 1000)


def measure_forms(plan: Plan, device: torch.device, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Each form of the op's convolution, forward and backward, by scale: minima in ms, null if it failed."""
    found = []
    for n, channels, group_size, side in op_shapes(plan):
        generator = torch.Generator(device).manual_seed(0)

        def normal(*shape: int, generator: torch.Generator = generator) -> Tensor:
            return torch.randn(shape, generator=generator, device=device).to(dtype).requires_grad_()

        x, grad = normal(n, channels, side, side), normal(n, channels, side, side).detach()
        kernels = normal(n, channels, group_size, 3, 3), normal(n, channels, group_size, 1, 1)
        leaves = [x, *kernels, normal(n, channels)]
        times: dict[str, float | None] = {}
        for form in GPU_FORMS:
            times[form] = _time_form(form, leaves, grad, plan.repeats, device)
        found.append({"batch": n, "channels": channels, "group_size": group_size, "side": side, "ms": times})
    return found


def _time_form(
    form: ConvImpl, leaves: list[Tensor], grad: Tensor, repeats: int, device: torch.device
) -> float | None:
    def run() -> object:
        return torch.autograd.grad(fast_adaconv(*leaves, impl=form), leaves, grad)

    try:
        run()
        return min(interleaved_ms({form: run}, repeats, device, lambda: None)[form])
    except RuntimeError:
        return None


def _frames(plan: Plan, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Frames of a clip in the shipped model, with the copies from and to the CPU, see `bench.stylize`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    height, width = plan.frame
    bfloat16 = dtype == torch.bfloat16
    case = Case("slim", "clip", height, width, bfloat16=bfloat16, repeats=plan.repeats, device=str(device))
    return measure(case).to_dict()


def _release(device: torch.device) -> None:
    gc.collect()
    torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
