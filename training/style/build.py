"""The parts of a style-transfer run, from its configuration: data, model, loss network, losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from configs.style import Optimizer, StyleData, StyleLoss, StyleModel, StyleRun, StyleSchedule
from ganmod.data.crops import CropStream, Pairs
from ganmod.data.identity import pictures_identity
from ganmod.data.seeding import draw
from ganmod.features.spectrum_loss import spectrum_loss
from ganmod.features.style_losses import STYLE_LOSSES, Features, content_loss
from ganmod.features.vgg import VGGFeatures, load_features, weights_digest
from ganmod.io.images import list_images
from ganmod.layers import StaticConv2d
from ganmod.modulation.statistics import match_statistics, mean_std
from style_transfer import ModelSpec, StyleTransferModel, build, load
from style_transfer.networks.residual_host import Origin
from style_transfer.procedural_styles import builtin_contents, draw_style_set
from training.muon import Muon
from training.run.lifecycle import restore_optimizer

BUILTIN_STYLES = 60
SHIPPED = "shipped"  # what `transfer` calls the model that comes with ganmod


class Losses(NamedTuple):
    total: Tensor
    content: Tensor
    style: Tensor


def find_images(paths: list[str], exclude: list[str]) -> list[Path]:
    """The image files given and all images in the folders given.

    exclude: files with names to leave out, one per line.
    """
    left_out = {line.strip() for file in exclude for line in _read_lines(file)}
    listed = [[Path(path)] if Path(path).is_file() else list_images(path) for path in paths]
    images = [image for part in listed for image in part if image.name not in left_out]
    if paths and not images:
        raise ValueError(
            f"every image in {', '.join(paths)} is listed in {', '.join(exclude)}: nothing to train on"
        )
    return images


def _read_lines(file: str) -> list[str]:
    """The lines of a text file; ValueError, which names it, for one that is not UTF-8."""
    try:
        return Path(file).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8, expected names of images, one a line") from error


def build_data(data: StyleData, seed: int) -> Pairs:
    """Content and style streams; empty lists mean the built-in photos and procedural styles."""
    contents: list[Path] | list[np.ndarray] = find_images(data.content, data.exclude) or list(
        builtin_contents().values()
    )
    styles: list[Path] | list[np.ndarray] = find_images(data.style, data.exclude) or [
        image for _, image in draw_style_set(BUILTIN_STYLES, 256)
    ]
    content = _stream(contents, "content", data, seed)
    return Pairs(
        content,
        _stream(styles, "style", data, seed),
        change_colors=data.change_colors,
        photo_styles=data.photo_styles,
        same_image=data.same_image,
    )


def run_identity(data: Pairs, encoder: VGGFeatures, loss_network: VGGFeatures) -> dict[str, str]:
    """Hashes of the images and frozen weights that paths of a configuration lead to, by key.

    The encoder may come from the file that the run begins with, which is read again at each start.
    """
    return {
        "data.content": pictures_identity(data.content.images),
        "data.style": pictures_identity(data.style.images),
        "model.encoder": weights_digest(encoder),
        "loss.network": weights_digest(loss_network),
    }


def _stream(images: list[Path] | list[np.ndarray], purpose: str, data: StyleData, seed: int) -> CropStream:
    return CropStream(
        images,
        purpose=purpose,
        crop=data.crop,
        short_side=data.short_side,
        seed=seed,
        flip=data.flip,
        enlarge=data.enlarge,
        cache_mb=data.cache_mb // 2,
    )


def draw_origin(seed: int, nimg: int) -> tuple[int, int]:
    """Where a step's crops lie in the plane of the model's noise, so that it meets all of it."""
    row, column = draw(seed, "noise origin", nimg).integers(0, 4096, 2)
    return int(row), int(column)


def resolve(config: StyleRun) -> StyleRun:
    """The configuration with the section `model` of the file that the run starts from, if it does from one.

    Raises ValueError for a key of that section that was given and says otherwise.
    """
    if config.transfer is None:
        return config
    model = build_model(config.model, transfer=config.transfer)
    spec = asdict(model.spec)
    of_file = {key: value for key, value in spec.items() if hasattr(config.model, key)}
    for key in sorted(config.model_keys & of_file.keys()):
        if (value := getattr(config.model, key)) != of_file[key]:
            raise ValueError(
                f"model.{key} is {value!r}, but {config.transfer} holds a model with {of_file[key]!r}, which "
                "a run that starts from it keeps: leave the section `model` out"
            )
    section = replace(config.model, **of_file)
    return config.model_copy(update={"model": section})


def build_model(config: StyleModel, *, transfer: str | None = None) -> StyleTransferModel:
    """The untrained model with its pretrained encoder.

    transfer: instead, the trained model of that file, or the "shipped" one.
    """
    if transfer is not None:
        file = None if transfer == SHIPPED else transfer
        return load(file, encoder_weights=config.encoder_weights)
    encoder = load_features(config.encoder, path=config.encoder_weights)
    w1, w2, w3, w4 = encoder.widths
    spec = ModelSpec.from_options(config, encoder=config.encoder, encoder_widths=(w1, w2, w3, w4))
    return build(spec, encoder)


def build_optimizers(model: StyleTransferModel, config: Optimizer) -> dict[str, torch.optim.Optimizer]:
    """{"optimizer": Adam}, and {"muon": Muon} for the static convolutions where muon_lr is given."""
    parameters = model.trainable()
    convolutions = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, StaticConv2d) and config.muon_lr is not None
    }
    optimizers: dict[str, torch.optim.Optimizer] = {
        "optimizer": torch.optim.Adam(
            [p for name, p in parameters.items() if name not in convolutions],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
    }
    if config.muon_lr is not None:
        weights = [p for name, p in parameters.items() if name in convolutions]
        optimizers["muon"] = Muon(weights, config.muon_lr)
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def restore_state(
    state: Mapping[str, Any],
    model: StyleTransferModel,
    ema: Mapping[str, Tensor],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Set model, averages and optimizers to the state of a checkpoint, in place."""
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            parameter.copy_(state["model"][name])
            ema[name].copy_(state["ema"][name])
        for name, buffer in model.calibration().items():
            buffer.copy_(state["calibration"][name])
    for name, optimizer in optimizers.items():
        restore_optimizer(optimizer, state[name])


def lr_factor(nimg: int, schedule: StyleSchedule) -> float:
    """Factor of the learning rate after nimg images.

    It rises over warmup_kimg, and falls to 0 in a straight line over the last decay_kimg.
    """
    rise = min(1.0, (nimg + schedule.batch_size) / (schedule.warmup_kimg * 1000 + 1e-9))
    fall = min(1.0, (schedule.total_kimg * 1000 - nimg) / (schedule.decay_kimg * 1000 + 1e-9))
    return rise * max(fall, 0.0)


def build_loss_network(config: StyleLoss, model: StyleTransferModel) -> VGGFeatures:
    """The frozen network in whose features the losses are measured; "model": the model's own encoder."""
    if config.network == "model":
        return model.encoder
    return load_features(config.network, path=config.network_weights)


def build_second_network(config: StyleLoss) -> VGGFeatures | None:
    """The other frozen network in whose features the losses are measured, too, if the run has one."""
    if config.second_network is None:
        return None
    return load_features(config.second_network, path=config.second_weights)


def same_network(first: VGGFeatures, second: VGGFeatures) -> bool:
    """Whether two feature networks hold the same values, so that what one computed serves for the other."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a)


def style_transfer_losses(
    model: StyleTransferModel,
    network: VGGFeatures,
    config: StyleLoss,
    content: Tensor,
    style: Tensor,
    *,
    second: VGGFeatures | None = None,
    shared: bool = False,
    origin: Origin = (0, 0),
) -> Losses:
    """Losses of stylized images in the features of `network`, averaged over the batch.

    content, style [N,3,H,W] in [0,1]. The classic model's content target is the content with the style's
    statistics (Huang & Belongie 2017, Eq. 12); the modulated models' is the content itself (Chandran et al.
    2021, Eq. 6). second: another network; the losses are the means of those in the features of both.
    shared: `network` is the model's encoder (`same_network`); content and style then pass through it once, as
    input and as target, if style images have the size that the model wants. origin: see
    `StyleTransferModel.encode`.
    """
    classic = model.spec.architecture == "classic"
    # Statistics of a style are read at the size at which the loss compares them.
    prepared = style if classic or model.sees_whole_styles else model.prepare_style(style)
    with torch.no_grad():
        style_target = network.normalized(style)
        target = network.normalized(content)
    known = shared and prepared.shape == style.shape
    params = model.predict_from_features(style_target) if known else model.predict(prepared)
    encoded = model.encode(content, target if shared else None, origin=origin)
    images = model.decode(encoded, params)

    terms = [_feature_losses(network.normalized(images), target, style_target, config, classic=classic)]
    if second is not None:
        with torch.no_grad():
            target, style_target = second.normalized(content), second.normalized(style)
        terms.append(
            _feature_losses(second.normalized(images), target, style_target, config, classic=classic)
        )
    content_term, style_term = (torch.stack(both).mean() for both in zip(*terms, strict=True))
    total = config.content_weight * content_term + config.style_weight * style_term
    if config.reconstruction_weight > 0:
        total = total + config.reconstruction_weight * (images - content).square().mean()
    if config.spectrum_weight > 0:
        total = total + config.spectrum_weight * spectrum_loss(images, style).mean()
    return Losses(total, content_term, style_term)


def _feature_losses(
    stylized: Features, content: Features, style: Features, config: StyleLoss, *, classic: bool
) -> tuple[Tensor, Tensor]:
    """(content, style), averaged over the batch."""
    if classic:
        content = {
            "relu4_1": match_statistics(content["relu4_1"], *mean_std(style["relu4_1"], unbiased=True))
        }
    return content_loss(stylized, content).mean(), STYLE_LOSSES[config.style](stylized, style).mean()
