"""Speed of StyleGAN2's training step for each modulation: plain against the options that make it faster.

All variants run in turn in one process: other work on the machine slows them down equally.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from configs.schema import load_stylegan2_config
from ganmod.cli.bench.peak_memory import peak_since, run_in_new_process, start_peak
from ganmod.cli.bench.timing import Advance, synchronize
from training.stylegan2.build import build_networks, build_optimizers, resolve
from training.stylegan2.objective import OBJECTIVES
from training.stylegan2.step import (
    Augmenter,
    Draws,
    FirstOrder,
    discriminator_phase,
    generator_phase,
    path_length_phase,
    r1_phase,
)


@dataclass(frozen=True)
class Variant:
    """A way to compute a step; by default float32, NCHW, eager."""

    name: str
    precision: str = "float32"
    channels_last: bool = False
    compiled: bool = False


VARIANTS = (
    Variant("plain"),
    Variant("channels-last", channels_last=True),
    Variant("bfloat16", precision="bfloat16", channels_last=True),
    Variant("bfloat16, compiled", precision="bfloat16", channels_last=True, compiled=True),
)


@dataclass(frozen=True)
class StepTime:
    """Times and memory of a training step.

    phases: median seconds of each phase.
    step: seconds of a step, lazy phases by their share.
    peak_mib: peak memory of a step in addition to networks and optimizers: of a new process on a CPU, of the
        allocator on a GPU. None where the system does not report it, and for compiled steps on a CPU, where
        the compiler's memory would count.
    """

    modulation: str
    variant: str
    parameters: int
    phases: dict[str, float]
    step: float
    seconds_per_kimg: float
    peak_mib: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class TrainingStep:
    """The four phases of a step, each with its backward and optimizer step, on random images."""

    def __init__(
        self,
        modulation: str,
        variant: Variant,
        *,
        preset: str,
        size: int,
        settings: dict[str, Any],
        device: torch.device,
    ) -> None:
        config = load_stylegan2_config(
            preset,
            {**settings, "model.modulation": modulation, "runtime.precision": variant.precision},
        )
        resolved = resolve(config, (size, size), 1, device)
        batch, group_size = resolved.schedule.batch_size, resolved.model.mbstd_group_size
        self.config, self.loss, self.batch, self.device = resolved, resolved.loss, batch, device
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        torch.manual_seed(0)
        self.G, self.D = build_networks(
            resolved.model, (size, size), 0, precision=resolved.runtime.precision, freeze_d=resolved.freeze_d
        )
        for network in (self.G, self.D):
            network.to(device).to(memory_format=layout)
        self.networks = FirstOrder.of(self.G, self.D, compiled=variant.compiled)
        self.parameters = sum(p.numel() for p in self.G.parameters())
        self.images = (torch.rand(batch, 3, size, size, device=device) * 2 - 1).contiguous(
            memory_format=layout
        )
        self.draws = Draws(0, 0, group_size, device, torch.float32, None)
        self.augmenter = Augmenter(config.augmentation, 0.3 if config.augmentation.kind == "ada" else 0.0)
        self.groups = range(batch // group_size)
        self.g_optimizer, self.d_optimizer = build_optimizers(self.G, self.D, resolved.optimizer, self.loss)
        self.mean_length = torch.zeros([], device=device)
        self.phases: dict[str, tuple[Callable[[], None], float]] = {
            "generator": (self.generator, 1.0),
            "discriminator": (self.discriminator, 1.0),
        }
        if OBJECTIVES[self.loss.objective].is_lazy:
            self.phases["R1"] = (self.r1, 1 / config.loss.r1_interval)
        if self.loss.pl_weight > 0:
            self.phases["path length"] = (self.path_length, 1 / config.loss.pl_interval)

    def _step(self, losses: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        optimizer.step()

    def generator(self) -> None:
        self.D.requires_grad_(False)
        losses, _ = generator_phase(
            self.G, self.networks, self.loss, self.draws, self.augmenter, self.groups, self.images, None
        )
        self._step(losses, self.g_optimizer)

    def path_length(self) -> None:
        losses, _ = path_length_phase(self.G, self.loss, self.draws, self.groups, 0, self.mean_length)
        self._step(losses * self.loss.pl_weight, self.g_optimizer)

    def discriminator(self) -> None:
        self.D.requires_grad_(True)
        draws, augmenter, groups = self.draws, self.augmenter, self.groups
        terms = discriminator_phase(
            self.G, self.D, self.networks, self.loss, draws, augmenter, groups, self.images, None
        )
        self._step(terms.total(self.loss.r1_gamma) / self.batch, self.d_optimizer)

    def r1(self) -> None:
        self.D.requires_grad_(True)
        penalties = r1_phase(self.D, self.draws, self.augmenter, self.groups, self.images, None)
        self._step(penalties * (self.loss.r1_gamma / 2), self.d_optimizer)


def compare_steps(
    modulations: Sequence[str],
    variants: Sequence[Variant],
    *,
    preset: str = "stylegan2-auto",
    size: int = 64,
    settings: dict[str, Any],
    repeats: int,
    device: torch.device,
    progress: Advance = lambda: None,
) -> list[StepTime]:
    """Times of every modulation in every variant, all in turn, after one warm-up run of each."""
    steps = {
        (modulation, variant.name): TrainingStep(
            modulation, variant, preset=preset, size=size, settings=settings, device=device
        )
        for modulation, variant in itertools.product(modulations, variants)
    }
    times: dict[tuple[str, str], dict[str, list[float]]] = {
        key: {phase: [] for phase in step.phases} for key, step in steps.items()
    }
    on_gpu = device.type == "cuda"
    peaks: dict[tuple[str, str], float | None] = dict.fromkeys(steps)
    for turn in range(repeats + 1):
        for key, step in steps.items():
            if on_gpu:
                before = start_peak(device)
            for phase, (run, _) in step.phases.items():
                synchronize(device)
                begin = time.perf_counter()
                run()
                synchronize(device)
                if turn:
                    times[key][phase].append(time.perf_counter() - begin)
            if on_gpu:
                peaks[key] = peak_since(before, device)
            step.g_optimizer.zero_grad(set_to_none=True)
            step.d_optimizer.zero_grad(set_to_none=True)
            progress()
    if not on_gpu:  # the allocator would reuse the memory of earlier steps
        for modulation, variant in itertools.product(modulations, variants):
            if not variant.compiled:
                peak = run_in_new_process(peak_of_step, modulation, variant, preset, size, settings, device)
                peaks[modulation, variant.name] = peak
    return [
        _row(modulation, variant, steps[modulation, variant], measured, peaks[modulation, variant])
        for (modulation, variant), measured in times.items()
    ]


def peak_of_step(
    modulation: str,
    variant: Variant,
    preset: str,
    size: int,
    settings: dict[str, Any],
    device: torch.device,
) -> float | None:
    """`StepTime.peak_mib` of one step; this must be the first step of the process."""
    step = TrainingStep(modulation, variant, preset=preset, size=size, settings=settings, device=device)
    before = start_peak(device)
    for run, _ in step.phases.values():
        run()
    return peak_since(before, device)


def _row(
    modulation: str, variant: str, step: TrainingStep, times: dict[str, list[float]], peak: float | None
) -> StepTime:
    phases = {phase: statistics.median(values) for phase, values in times.items()}
    total = sum(phases[phase] * share for phase, (_, share) in step.phases.items())
    return StepTime(modulation, variant, step.parameters, phases, total, total / step.batch * 1000, peak)
