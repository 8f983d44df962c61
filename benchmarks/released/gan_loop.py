"""What both GANs' jobs share: steps until a deadline, the fastest form of AdaConv, a record of the run."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from configs.starganv2 import StarGANv2Run
from configs.stylegan2 import StyleGAN2Run
from ganmod.cli.bench.timing import interleaved_ms, synchronize
from ganmod.machine import describe_machine, peak_memory_mb
from ganmod.modulation import AdaConv
from ganmod.modulation.per_sample_conv import ConvImpl
from metrics.features.base import FeatureSpace
from metrics.features.pretrained import load_feature_space
from metrics.image_sets.distances import measure_distances
from metrics.image_sets.features import SetFeatures
from released.faces import FaceStore
from released.fitting import REPORT_SECONDS
from released.inputs import Inputs, feature_path
from released.jobs import MB, GanJob
from training.run.nonfinite import NonFiniteError

METRICS = ("fid", "kid", "pr")  # in a feature space that the discriminator does not read
# Forms that a GPU may prefer; the others are for a CPU's cache.
GPU_FORMS: tuple[ConvImpl, ...] = ("grouped", "samples", "shifted", "unfold", "matmul")
WAIT_STEPS = 8  # between two waits for the device
Log = Callable[[str], None]


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
    """Call `step` until the deadline (of time.monotonic), or for `steps`.

    step: images seen before -> the losses [len(names)], and whether all gradients were finite (bool []), both
    on the device. Raises NonFiniteError where no step between two reports had finite gradients, and
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
        if ended or (now - last_report >= REPORT_SECONDS and done > reported):
            good = int(finite)  # waits for the device
            if good == 0:
                raise NonFiniteError(
                    f"gradients were not finite in all of the {done - reported} steps before step {done}: "
                    "lower the learning rates (--set)"
                )
            now = time.monotonic()
            losses = dict(zip(names, (sums / good).tolist(), strict=True))
            rate = (done - reported) * batch_size / (now - last_report)
            shown = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            log(f"{now - begin:5.0f} s  {done * batch_size / 1000:.1f} kimg  {rate:.0f} images/s  {shown}")
            left_out += done - reported - good
            sums.zero_()
            finite.zero_()
            reported, last_report = done, now
        if ended:
            return Trained(done, done * batch_size, now - begin, left_out, losses)
        values, ok = step(done * batch_size)
        sums += torch.where(ok, values, 0.0)
        finite += ok
        done += 1
        if done % WAIT_STEPS == 0:  # else steps in the device's queue would outlast the deadline
            synchronize(device)


def choose_form(
    networks: Sequence[nn.Module],
    run: Callable[[], object],
    device: torch.device,
    *,
    forms: Sequence[ConvImpl] = GPU_FORMS,
    repeats: int = 3,
) -> dict[str, float]:
    """Let AdaConv's layers compute in the form in which `run` is fastest -> {form: minimum in ms}.

    All forms give the same result. Empty, with nothing changed, without AdaConv; a form that fails, for
    example for want of memory, is left out.
    """
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, AdaConv)]
    if not layers:
        return {}
    assert set(forms) <= set(get_args(ConvImpl))
    times: dict[str, float] = {}
    before = layers[0].impl
    for form in forms:
        for layer in layers:
            layer.impl = form
        try:
            run()
            synchronize(device)
            times[form] = min(interleaved_ms({form: run}, repeats, device, lambda: None)[form])
        except RuntimeError:
            continue
    best = min(forms, key=lambda form: times.get(form, float("inf")))
    for layer in layers:
        layer.impl = best if times else before
    if device.type == "cuda":  # the other forms' memory is not the run's
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return {form: round(value, 2) for form, value in times.items()}


def check_size(job: GanJob, networks: Sequence[nn.Module]) -> None:
    """ValueError where the networks, in half precision, would fill more than the job's file may have."""
    stored = 2 * sum(x.numel() for network in networks for x in network.state_dict().values())
    if stored > job.max_bytes:
        raise ValueError(
            f"{job.name} would be stored in {stored / MB:.1f} MB, allowed are {job.max_bytes / MB:g} MB: "
            "lower model.channel_max, or model.g_channel_max"
        )


def measuring_space(
    config: StyleGAN2Run | StarGANv2Run, folder: Path, inputs: Inputs, device: torch.device
) -> FeatureSpace:
    """The feature space of `config.metric`, with the inputs' weights where they have them."""
    name = config.metric.features
    path = config.metric.feature_weights or feature_path(folder, inputs, name)
    return load_feature_space(name, path, device=device)


def distances(fakes: SetFeatures, reals: SetFeatures, space: FeatureSpace) -> dict[str, float]:
    """METRICS of one set against another, to five digits."""
    values = measure_distances(fakes, reals, METRICS, space)
    return {name: float(f"{value:.5g}") for name, value in values.items()}


def make_record(
    job: GanJob,
    config: StyleGAN2Run | StarGANv2Run,
    inputs: Inputs,
    faces: FaceStore,
    trained: Trained,
    *,
    more: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    begin: float,
) -> dict[str, Any]:
    """What JOB.json holds but for its evaluation. networks: by name, whose parameters are counted."""
    device = faces.images.device
    return {
        "job": job.name,
        "modulation": config.model.modulation,
        "evaluation": None,
        **more,
        "training": trained.figures(),
        "parameters": {
            name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()
        },
        "faces": faces.class_counts() | {"size": faces.size},
        "inputs": inputs.about,
        "machine": describe_machine(device) | {"numpy": np.__version__},
        "peak_memory_mb": round(peak_memory_mb(device)),
        "command": shlex.join(sys.argv),
        "configuration": config.model_dump(mode="json"),
        "wall_seconds": round(time.monotonic() - begin, 1),
    }


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """As JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
