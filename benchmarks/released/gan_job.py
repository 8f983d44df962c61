"""What both GANs' jobs share: from networks and faces to the files, the fastest form of AdaConv, figures."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import numpy as np
import torch
from torch import nn

from configs.starganv2 import StarGANv2Run
from configs.stylegan2 import StyleGAN2Run
from ganmod.cli.bench.timing import interleaved_ms, synchronize
from ganmod.io.small_jpeg import write_small_jpeg
from ganmod.machine import describe_machine, peak_memory_mb
from ganmod.modulation import AdaConv
from ganmod.modulation.per_sample_conv import ConvImpl
from metrics.features.base import FeatureSpace
from metrics.features.pretrained import load_feature_space
from metrics.image_sets.distances import measure_distances
from metrics.image_sets.features import SetFeatures
from released.faces import FaceStore
from released.inputs import Inputs, feature_path
from released.jobs import MAX_SHEET_BYTES, MB, GanJob
from released.timed_loop import JobOptions, Trained

METRICS = ("fid", "kid", "pr")  # in a feature space that the discriminator does not read
# Forms that a GPU may prefer; the others are for a CPU's cache.
GPU_FORMS: tuple[ConvImpl, ...] = ("grouped", "samples", "shifted", "unfold", "matmul")
Averaged = TypeVar("Averaged")


@dataclass(frozen=True)
class GanParts(Generic[Averaged]):
    """Wherein the recipes differ.

    Attributes:
        config: of the run.
        inputs: the folder's manifest.
        faces: the real images, on the device.
        build: -> all networks by name, with a generator "G", on the CPU.
        stored: names of those of which the model file holds an average.
        fit: trains them -> averaged networks, what it took, further figures for the record.
        save: (path, averaged networks, facts about the training) writes the model file.
        sheet: averaged networks -> a picture, uint8 [H,W,3].
        evaluate: (averaged networks, feature space) -> figures; "distances": of `distances`, or those by set.
    """

    config: StyleGAN2Run | StarGANv2Run
    inputs: Inputs
    faces: FaceStore
    build: Callable[[], Mapping[str, nn.Module]]
    stored: Sequence[str]
    fit: Callable[[Mapping[str, Any]], tuple[Averaged, Trained, dict[str, Any]]]
    save: Callable[[Path, Averaged, Mapping[str, Any]], object]
    sheet: Callable[[Averaged], np.ndarray]
    evaluate: Callable[[Averaged, FeatureSpace], dict[str, Any]]


def run_gan(
    job: GanJob, folder: Path, out: Path, options: JobOptions, parts: GanParts[Averaged]
) -> tuple[Averaged, dict[str, Any]]:
    """As `job_run.run_job`: train, write JOB.safetensors, .json and .jpg -> averaged networks, figures."""
    config, inputs, faces = parts.config, parts.inputs, parts.faces
    device = faces.images.device
    space = measuring_space(config, folder, inputs, device)
    torch.manual_seed(config.runtime.seed)
    torch.backends.cudnn.benchmark = device.type == "cuda"
    layout = torch.channels_last if config.runtime.channels_last else torch.contiguous_format
    networks = parts.build()
    for network in networks.values():
        network.to(device, memory_format=layout)  # type: ignore[call-overload]
    check_size(job, [networks[name] for name in parts.stored])
    numbers = sum(p.numel() for p in networks["G"].parameters())
    options.say(f"{numbers:,} numbers in G; {faces.class_counts()} of {faces.size} px on {device}")

    averaged, trained, more = parts.fit(networks)
    model_file, figures_file = out / f"{job.name}.safetensors", out / f"{job.name}.json"
    parts.save(model_file, averaged, {"job": job.name, "steps": trained.steps, "nimg": trained.images})
    options.say(f"{model_file}, {model_file.stat().st_size / MB:.2f} MB")
    write_small_jpeg(out / f"{job.name}.jpg", parts.sheet(averaged), max_bytes=MAX_SHEET_BYTES)

    record: dict[str, Any] = {
        "job": job.name,
        "modulation": config.model.modulation,
        "evaluation": None,
        **more,
        "model_bytes": model_file.stat().st_size,
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
        "wall_seconds": round(options.elapsed, 1),
    }
    write_record(figures_file, record)  # without an evaluation, should time run out for it
    figures = parts.evaluate(averaged, space)
    record |= {"evaluation": figures, "wall_seconds": round(options.elapsed, 1)}
    write_record(figures_file, record)
    for line in describe_distances(figures["distances"]):
        options.say(line)
    return averaged, record


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


def describe_distances(found: Mapping[str, Any]) -> list[str]:
    """`distances` in one line, or a line for each set of images with its name, where they are by set."""
    if any(isinstance(values, Mapping) for values in found.values()):
        return [f"{name}: {line}" for name, values in found.items() for line in describe_distances(values)]
    return ["  ".join(f"{name} {value:.5g}" for name, value in found.items())]


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """As JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
