"""One job from its inputs to its files: model, figures, sheet."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.schema import load_style_config
from configs.style import StyleRun
from ganmod.features.style_losses import content_loss, mean_std_loss
from ganmod.features.vgg import VGGFeatures, load_features
from ganmod.io.images import center_crop, make_grid, resize_short_side, to_tensor, to_uint8
from ganmod.io.small_jpeg import write_small_jpeg
from ganmod.machine import describe_machine, peak_memory_mb
from released.crops import PairDrawer
from released.fitting import fit, losses_of
from released.inputs import CONTENTS, STYLES, Inputs, feature_path, held_out, read_images, read_inputs
from released.jobs import MAX_OUTPUT_BYTES, MAX_SHEET_BYTES, MAX_TRAINED, MB, Job
from released.timed_loop import JobOptions
from style_transfer import StyleTransferModel
from training.style.build import build_loss_network, build_model, build_second_network, resolve
from training.style.samples import copy_into

PROBED = 32  # training pairs whose loss is compared before and after
CELL = 224  # pixels in the sheet


def configure(job: Job, folder: Path, inputs: Inputs, changes: Mapping[str, Any]) -> StyleRun:
    """The job's configuration with `changes`, and the inputs' feature networks in place."""
    config = load_style_config(job.preset, {**job.changes, **changes})
    paths = {
        "model.encoder_weights": feature_path(folder, inputs, config.model.encoder),
        "loss.network_weights": feature_path(folder, inputs, config.loss.network),
    }
    if config.loss.second_network is not None:
        paths["loss.second_weights"] = feature_path(folder, inputs, config.loss.second_network)
    return load_style_config(job.preset, {**paths, **job.changes, **changes})


def run_job(
    job: Job,
    folder: Path,
    out: Path,
    options: JobOptions,
    *,
    init: Path | None = None,
) -> tuple[StyleTransferModel, dict[str, Any]]:
    """Train, write the model, measure it, write figures and sheet -> the averaged model, the figures.

    init: a model file to begin with. Raises ValueError for inputs that do not fit the job and for a model too
    large to be released, and as `train_until`.
    """
    inputs, device = read_inputs(folder), options.device
    config = configure(job, folder, inputs, options.changes)
    torch.manual_seed(config.runtime.seed)
    if init is not None:
        config = resolve(config.model_copy(update={"transfer": str(init)}))
    model = build_model(config)
    network, second = build_loss_network(config.loss, model), build_second_network(config.loss)
    numbers = sum(p.numel() for p in model.trainable().values())
    encoder = sum(x.numel() for x in model.encoder.parameters())
    stored = 2 * (
        numbers + (encoder if config.model.encoder != "vgg19" else 0)
    )  # VGG-19 is named, not stored
    if numbers > MAX_TRAINED or stored > MAX_OUTPUT_BYTES:
        raise ValueError(
            f"{job.name} trains {numbers:,} numbers and is stored in {stored / MB:.1f} MB, allowed are "
            f"{MAX_TRAINED:,} and {MAX_OUTPUT_BYTES / MB:g} MB: lower model.width or model.style_dim"
        )
    layout = torch.channels_last if config.runtime.channels_last else torch.preserve_format
    model.to(device, memory_format=layout)  # type: ignore[call-overload]
    for features in (network, second):
        if features is not None:
            features.to(device, memory_format=layout)  # type: ignore[call-overload]
    torch.backends.cudnn.benchmark = device.type == "cuda"

    contents, styles = read_images(folder / CONTENTS), read_images(folder / STYLES)
    pairs = PairDrawer(contents, styles, config.data, seed=config.runtime.seed, device=device)
    probe = pairs(PROBED)
    before = losses_of(config, model, network, probe, second=second)
    options.say(
        f"{numbers:,} trained numbers; {len(contents)} contents and {len(styles)} styles on {device}; "
        f"loss before {before['total']:.4f}"
    )

    limits: dict[str, Any] = {"deadline": options.deadline, "steps": options.steps, "graph": options.graph}
    averaged, trained, is_graph = fit(config, model, network, pairs, second=second, log=options.log, **limits)
    copy_into(model, averaged)
    model.eval()
    model_file, figures_file, sheet_file = (out / name for name in job.outputs)
    training = {"job": job.name, "steps": trained.steps, "images": trained.images}
    model.save(model_file, half=True, training=training)
    options.say(f"{model_file}, {model_file.stat().st_size / MB:.2f} MB")

    after = losses_of(config, model, network, probe, second=second)
    figures, pictures = evaluate(job, folder, inputs, config, model, network)
    write_small_jpeg(sheet_file, pictures, max_bytes=MAX_SHEET_BYTES)
    record = {
        "job": job.name,
        "evaluation": figures,
        "training_loss": {"before": before, "after": after, "pairs": PROBED},
        "training": trained.figures()
        | {
            "graph": is_graph,
            "steps_per_second": round(trained.steps / trained.seconds, 3),
            "batch_size": config.schedule.batch_size,
        },
        "trained_numbers": numbers,
        "model_bytes": model_file.stat().st_size,
        "init": None if init is None else str(init),
        "inputs": inputs.about,
        "machine": describe_machine(device) | {"numpy": np.__version__},
        "peak_memory_mb": round(peak_memory_mb(device)),
        "command": shlex.join(sys.argv),
        "configuration": config.model_dump(mode="json"),
        "wall_seconds": round(options.elapsed, 1),
    }
    figures_file.write_text(json.dumps(record, indent=1) + "\n")
    for name, values in figures["networks"].items():
        options.log(
            f"{name}: content {values['content']:.4f}  style {values['style']:.4f}  "
            f"(photo unchanged: style {values['photo_style']:.4f})"
        )
    options.say(f"loss on training pairs {before['total']:.4f} -> {after['total']:.4f}")
    return model, record


@torch.inference_mode()
def evaluate(
    job: Job,
    folder: Path,
    inputs: Inputs,
    config: StyleRun,
    model: StyleTransferModel,
    network: VGGFeatures,
) -> tuple[dict[str, Any], np.ndarray]:
    """({"networks": {name: {content, style, photo_style}}, ...}, sheet uint8 [H,W,3]) of the held-out pairs.

    content, style: losses of the stylized images in float32, averaged over the pairs; photo_style: style loss
    of the photo itself. The losses see a style at the size at which the model does.
    """
    device, size = network.rms.device, job.evaluation.size
    networks = {config.loss.network: network}
    for name in job.evaluation.networks:
        path = feature_path(folder, inputs, name)
        if name not in networks and path is not None:
            networks[name] = load_features(name, path=path).to(device)
    contents, styles = held_out(folder, inputs)
    photos = [to_tensor(_cut_to_eights(image, size))[None].to(device) for image in contents]
    paintings = [model.prepare_style(to_tensor(image)[None].to(device)) for image in styles]
    targets = {name: [net.normalized(photo) for photo in photos] for name, net in networks.items()}
    sums = {name: dict.fromkeys(("content", "style", "photo_style"), 0.0) for name in networks}
    rows: list[list[np.ndarray]] = [[np.full_like(contents[0], 255), *contents]]
    for style, painting in zip(styles, paintings, strict=True):
        params = model.predict(painting)
        style_targets = {name: net.normalized(painting) for name, net in networks.items()}
        rows.append([style])
        for i, photo in enumerate(photos):
            result = model.decode(model.encode(photo), params).clamp(0, 1)
            rows[-1].append(to_uint8(result[0]))
            for name, net in networks.items():
                found, target = net.normalized(result), style_targets[name]
                sums[name]["content"] += float(content_loss(found, targets[name][i]))
                sums[name]["style"] += float(mean_std_loss(found, target))
                sums[name]["photo_style"] += float(mean_std_loss(targets[name][i], target))
    count = len(photos) * len(paintings)
    figures = {
        "networks": {name: {k: v / count for k, v in values.items()} for name, values in sums.items()},
        "pairs": count,
        "size": size,
        "contents": inputs.contents,
        "styles": inputs.styles,
    }
    return figures, make_grid(rows, cell_size=(CELL, CELL))


def _cut_to_eights(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H,W,3], short side resized to `size`, cut from the middle to multiples of 8."""
    image = resize_short_side(image, size)
    return center_crop(image, (image.shape[0] // 8 * 8, image.shape[1] // 8 * 8))
