"""The parts of a style-transfer run, from its configuration: data, model, loss network, losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.style import Optimizer, StyleData, StyleLoss, StyleModel, StyleRun, StyleSchedule
from ganmod.data.crops import CropStream, Pairs
from ganmod.data.identity import pictures_identity
from ganmod.data.seeding import draw
from ganmod.features.vgg import VGGFeatures, load_features, state_digest, weights_digest
from ganmod.io.images import list_images
from ganmod.layers import StaticConv2d
from style_transfer import ModelSpec, StyleTransferModel, build, load
from style_transfer.procedural_styles import builtin_contents, draw_style_set
from training.muon import Muon
from training.run.lifecycle import restore_optimizer

BUILTIN_STYLES = 60
SHIPPED = "shipped"  # what `transfer` calls the model that comes with ganmod


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


def build_data(data: StyleData, seed: int, model: StyleModel | None = None) -> Pairs:
    """Content and style streams; empty lists mean the built-in photos and procedural styles.

    model: the resolved section, whose learned styles and style_image_size count where data asks for them.
    """
    model = model or StyleModel()
    contents: list[Path] | list[np.ndarray] = find_images(data.content, data.exclude) or list(
        builtin_contents().values()
    )
    names, styles = find_styles(data)
    content = _stream(contents, "content", data, seed)
    whole = model.style_image_size if data.whole_styles else None
    style = _stream(styles, "style", data, seed, whole=whole)
    if data.learn_styles:
        for index in range(len(names)):  # one that cannot be read would become a style of random numbers
            style.full_image(index)
    return Pairs(
        content,
        style,
        change_colors=data.change_colors,
        photo_styles=data.photo_styles,
        same_image=data.same_image,
        style_ids=[model.learned_styles.index(name) for name in names] if data.learn_styles else None,
    )


def find_styles(data: StyleData) -> tuple[list[str], Sequence[Path] | Sequence[np.ndarray]]:
    """Names and images of the styles; without any given, those that ganmod draws.

    Raises ValueError for two files of one name, where the names count.
    """
    files = find_images(data.style, data.exclude)
    if not files:
        names, drawn = zip(*draw_style_set(BUILTIN_STYLES, 256), strict=True)
        return [f"{name}{i}" for i, name in enumerate(names)], drawn
    names = [file.stem for file in files]
    if data.learn_styles and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two style images are called {twice!r}, by which their style is named: rename one")
    return names, files


def run_identity(data: Pairs, model: StyleTransferModel, loss_network: VGGFeatures) -> dict[str, str]:
    """Hashes of the images and frozen weights that paths of a configuration lead to, by key.

    The encoder, and all but the new styles where styles are added, come from the file that the run begins
    with, which is read again at each start.
    """
    found = {
        "data.content": pictures_identity(data.content.images),
        "data.style": pictures_identity(data.style.images),
        "model.encoder": weights_digest(model.encoder),
        "loss.network": weights_digest(loss_network),
    }
    if model.adds_styles:
        trained = model.trainable()
        kept = {name: x for name, x in model.state_dict().items() if name not in trained}
        found["transfer.frozen"] = state_digest(kept)
    return found


def _stream(
    images: Sequence[Path] | Sequence[np.ndarray],
    purpose: str,
    data: StyleData,
    seed: int,
    *,
    whole: int | None = None,
) -> CropStream:
    """whole: the side in pixels to which images are brought instead of cropped."""
    return CropStream(
        images,
        purpose=purpose,
        crop=whole or data.crop,
        whole=whole is not None,
        short_side=max(data.short_side, whole or 0),
        seed=seed,
        flip=data.flip and whole is None,
        enlarge=data.enlarge,
        cache_mb=data.cache_mb // 2,
    )


def draw_origin(seed: int, nimg: int) -> tuple[int, int]:
    """Where a step's crops lie in the plane of the model's noise, so that it meets all of it."""
    row, column = draw(seed, "noise origin", nimg).integers(0, 4096, 2)
    return int(row), int(column)


def resolve(config: StyleRun) -> StyleRun:
    """The configuration with the section `model` of the file that the run starts from, if it does from one.

    With `data.learn_styles`, the section names the styles of the data, too. Raises ValueError for a key of
    that section that was given and says otherwise, and for data that show styles which the file's model has
    learned beside others.
    """
    section = config.model
    if config.transfer is not None:
        spec = asdict(load_transferred(config).spec)
        if spec["architecture"] == "cascade":
            raise ValueError(f"{config.transfer} is a cascade, which is not trained: take another model")
        of_file = {key: value for key, value in spec.items() if hasattr(section, key)}
        for key in sorted(config.model_keys & of_file.keys() - {"learned_styles"}):
            if (value := getattr(section, key)) != of_file[key]:
                raise ValueError(
                    f"model.{key} is {value!r}, but {config.transfer} holds a model with {of_file[key]!r}, "
                    "which a run that starts from it keeps: leave the section `model` out"
                )
        section = replace(section, **of_file)
    if config.data.learn_styles:
        names = find_styles(config.data)[0]
        known = section.learned_styles if config.transfer is not None else ()
        if config.transfer is not None and not known:
            raise ValueError(
                f"data.learn_styles is true, but the model of {config.transfer} reads style images: set it "
                "to false, or start without that file"
            )
        new = tuple(name for name in names if name not in known)
        if known and new and len(new) < len(names):
            raise ValueError(
                f"{config.transfer} has learned {next(n for n in names if n in known)!r}, but not "
                f"{new[0]!r}: give images of new styles alone to add them, or of known ones alone to train on"
            )
        section = replace(section, learned_styles=(*known, *new))
        if "learned_styles" in config.model_keys and config.model.learned_styles != section.learned_styles:
            raise ValueError(
                f"model.learned_styles is {', '.join(config.model.learned_styles)}, but the style images are "
                f"{', '.join(section.learned_styles)}: leave that key out"
            )
    elif section.learned_styles:
        raise ValueError(
            f"the model learns the styles {', '.join(section.learned_styles)}, and data.learn_styles is "
            "false: set it to true, as the presets style-cin and style-stylebank do"
        )
    if config.loss.autoencoder_every is not None and section.architecture != "stylebank":
        raise ValueError(
            f"loss.autoencoder_every is {config.loss.autoencoder_every}, but model.architecture is "
            f"{section.architecture}: only stylebank can leave out the style"
        )
    return config.model_copy(update={"model": section})


def load_transferred(config: StyleRun) -> StyleTransferModel:
    """The model that the run starts from, as its file holds it."""
    file = None if config.transfer == SHIPPED else config.transfer
    return load(file, encoder_weights=config.model.encoder_weights)


def build_model(config: StyleRun) -> StyleTransferModel:
    """The model of a resolved configuration: untrained with a pretrained encoder, or the one to start from.

    Styles that the latter has not learned yet are added to it.
    """
    options = config.model
    if config.transfer is not None:
        model = load_transferred(config)
        new = options.learned_styles[len(model.spec.learned_styles) :]
        return model.with_styles(new) if new else model
    encoder = load_features(options.encoder, path=options.encoder_weights)
    w1, w2, w3, w4 = encoder.widths
    spec = ModelSpec.from_options(options, encoder=options.encoder, encoder_widths=(w1, w2, w3, w4))
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
    weights = [p for name, p in parameters.items() if name in convolutions]
    if config.muon_lr is not None and weights:  # new styles alone have none
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
