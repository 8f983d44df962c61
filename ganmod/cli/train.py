"""`ganmod train`: recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from configs.schema import (
    AnyRun,
    list_presets,
    load_starganv2_config,
    load_style_config,
    load_stylegan2_config,
)
from ganmod.cli.options.paths import InputPath
from ganmod.cli.options.shared import Number
from ganmod.cli.train_options import (
    RunOptions,
    check_run_folder,
    config_option,
    run_options,
    stop_on_sigterm,
)

if TYPE_CHECKING:
    from configs.starganv2 import StarGANv2Run
    from configs.style import StyleRun
    from configs.stylegan2 import StyleGAN2Run


@click.group()
def train() -> None:
    """Train a model. Running the same command again continues from the newest checkpoint."""
    stop_on_sigterm(click.get_current_context())


@train.command()
@config_option("style-adaconv-slim")
@click.option(
    "--content",
    multiple=True,
    type=InputPath(text=True),
    help="Folder of content images, or an image; repeatable. None: built-in photos.",
)
@click.option(
    "--style",
    multiple=True,
    type=InputPath(text=True),
    help="Folder of style images, or an image; repeatable. None: procedural styles.",
)
@click.option(
    "--one-style",
    type=InputPath(dir_okay=False, text=True),
    help="Train a network of this style alone, instead of --style; with --config style-johnson by default.",
)
@click.option(
    "--exclude", multiple=True, type=InputPath(text=True), help="File with names to leave out, one a line."
)
@click.option(
    "--modulation", help="adaconv, adain, weight_demod, din, one of your own ... (see `ganmod modulations`)."
)
@click.option(
    "--transfer",
    type=InputPath(dir_okay=False, text=True),
    help="Start from this model file; --config style-finetune starts from the shipped one.",
)
@click.option("--encoder", help="Encoder: vgg19, vgg19-slim or ganmod-slim.")
@click.option(
    "--loss-network",
    help="Loss network: vgg19, vgg19-slim, vgg19-slim-aux, ganmod-slim, or model: the model's own encoder.",
)
@click.option(
    "--network-weights",
    "--feature-weights",
    "network_weights",
    type=InputPath(text=True),
    help="Weights of the encoder and the loss network, where they are vgg19 or vgg19-slim; not those of the "
    "metric's network, --metric-weights.",
)
@click.option("--size", type=int, help="Side of the training crops in pixels.")
@run_options(precisions=("float32", "bfloat16", "float64"))
def style(
    options: RunOptions,
    content: tuple[str, ...],
    style: tuple[str, ...],
    one_style: str | None,
    exclude: tuple[str, ...],
    transfer: str | None,
    encoder: str | None,
    loss_network: str | None,
    network_weights: str | None,
    size: int | None,
) -> None:
    """Train a style-transfer model on folders of content and style images."""
    if one_style is not None:
        if style:
            raise click.UsageError("--one-style and --style: one picture, or several, leave one out")
        if click.get_current_context().get_parameter_source("config") == ParameterSource.DEFAULT:
            options = replace(options, config="style-johnson")
        style = (one_style,)
    changes = options.changes(
        {
            "model": None if transfer is None else {},  # that of the file; other options must agree with it
            "transfer": transfer,
            "data.content": list(content) or None,
            "data.style": list(style) or None,
            "data.exclude": list(exclude) or None,
            "model.encoder": encoder,
            "loss.network": loss_network,
            "data.crop": size,
        }
    )
    config = load_style_config(options.config, changes)
    if network_weights is not None:
        if config.transfer is None and config.model.encoder != "ganmod-slim":
            changes["model.encoder_weights"] = network_weights
        if config.loss.network not in ("ganmod-slim", "model"):
            changes["loss.network_weights"] = network_weights
        config = load_style_config(options.config, changes)
    if (out := check_run_folder(config, options, _describe_style)) is not None:
        from training.style.build import resolve
        from training.train_style import train as train_style

        _check_modulation(resolve(config).model.modulation)
        click.echo(f"model: {train_style(config, out, resume=options.resume, keep_old=options.keep_old)}")


def _describe_style(config: StyleRun) -> tuple[AnyRun, list[str]]:
    """The resolved configuration and lines about it, for a dry run."""
    from training.style.build import build_model, resolve

    config = resolve(config)
    _check_modulation(config.model.modulation)
    model = build_model(config)
    count = sum(p.numel() for p in model.trainable().values())
    return config, [f"presets: {', '.join(list_presets())}", f"trained parameters: {count:,}"]


@train.command()
@config_option("stylegan2-auto")
@click.option("--data", type=InputPath(text=True), help="Folder or zip of images of one size.  [required]")
@click.option(
    "--modulation",
    help='adaconv, weight_demod, adain, your own; "adaconv@4-32,weight_demod@64-" by size.',
)
@click.option("--cond/--no-cond", "conditional", default=None, help="Train on the data's labels.")
@click.option("--mirror/--no-mirror", default=None, help="Flip half of the images left to right.")
@click.option(
    "--aug", type=click.Choice(["none", "ada", "fixed", "diffaugment"]), help="What the discriminator sees."
)
@click.option(
    "--objective",
    type=click.Choice(["nonsaturating", "r3", "hinge"]),
    help="nonsaturating: StyleGAN2's; r3: relativistic, R1 and R2; hinge: for --discriminator projected.",
)
@click.option(
    "--discriminator",
    type=click.Choice(["resnet", "skip", "orig", "projected"]),
    help="projected: on random projections of frozen features, for small data.",
)
@click.option("--gamma", type=Number(), help="Weight of R1, under r3 of R2, too.")
@click.option("--transfer", type=InputPath(dir_okay=False, text=True), help="Start from this model file.")
@click.option("--freeze-d", type=int, help="Layers of D to keep fixed, from the image on.")
@run_options(
    precisions=("auto", "float32", "bfloat16", "float16", "float64"),
    weights=("--metric-weights", "--feature-weights"),
)
def stylegan2(
    options: RunOptions,
    data: str | None,
    conditional: bool | None,
    mirror: bool | None,
    aug: str | None,
    objective: str | None,
    discriminator: str | None,
    gamma: float | None,
    transfer: str | None,
    freeze_d: int | None,
) -> None:
    """Train StyleGAN2 with any modulation on images of one size."""
    changes = options.changes(
        {
            "data.path": data,
            "data.conditional": conditional,
            "data.mirror": mirror,
            "loss.objective": objective,
            "model.discriminator": discriminator,
            "loss.r1_gamma": gamma,
            "augmentation.kind": aug,
            "transfer": transfer,
            "freeze_d": freeze_d,
        }
    )
    config = load_stylegan2_config(options.config, changes)
    if not config.data.path:
        raise click.UsageError("Missing option '--data': a folder or zip of images of one size")
    if (out := check_run_folder(config, options, _describe_stylegan2)) is not None:
        from training.train_stylegan2 import train as train_stylegan2

        click.echo(f"model: {train_stylegan2(config, out, resume=options.resume, keep_old=options.keep_old)}")


def _describe_stylegan2(config: StyleGAN2Run) -> tuple[AnyRun, list[str]]:
    """The configuration and lines about data and networks, for a dry run; raises the errors of a run."""
    from ganmod.distributed import rank_and_world_size, resolve_device
    from training.stylegan2.automatic import describe_batch
    from training.stylegan2.build import build_dataset, build_networks, resolve, transfer_weights

    dataset = build_dataset(config.data, config.runtime.seed)
    height, width = dataset.image_shape[1:]
    _, world_size = rank_and_world_size()
    resolved = resolve(config, (height, width), world_size, resolve_device(config.runtime.device))
    G, D = build_networks(
        resolved.model,
        (height, width),
        dataset.c_dim,
        precision=resolved.runtime.precision,
        freeze_d=resolved.freeze_d,
    )
    if config.transfer is not None:
        transfer_weights(config.transfer, {"G": G, "D": D})
    lines = [f"{dataset.num_images} images of {width}x{height} (width x height), labels: {dataset.c_dim}"]
    for name, network in (("G", G), ("D", D)):
        lines.append(f"parameters of {name}: {sum(p.numel() for p in network.parameters()):,}")
    return resolved, lines + describe_batch(config, resolved, (height, width), world_size)


@train.command()
@config_option("starganv2-afhq")
@click.option(
    "--data",
    type=InputPath(text=True),
    help="Folder or zip of images, a sub-folder per domain.  [required]",
)
@click.option(
    "--modulation", help='adain, adaconv, weight_demod, your own; "adaconv@16-64,adain@128-" by size.'
)
@click.option("--size", type=int, help="Side to which all images are resized: 64, 128, 256, 512 or 1024.")
@click.option("--mirror/--no-mirror", default=None, help="Flip half of the images left to right.")
@click.option("--diversity", type=Number(), help="Weight of the diversity loss at the start.")
@run_options(precisions=("float32", "bfloat16", "float64"), weights=("--metric-weights", "--feature-weights"))
def starganv2(
    options: RunOptions,
    data: str | None,
    size: int | None,
    mirror: bool | None,
    diversity: float | None,
) -> None:
    """Train StarGAN v2 with any modulation: translation between the domains of a folder."""
    changes = options.changes(
        {
            "data.path": data,
            "data.mirror": mirror,
            "model.img_size": size,
            "loss.diversity_weight": diversity,
        }
    )
    config = load_starganv2_config(options.config, changes)
    if not config.data.path:
        raise click.UsageError("Missing option '--data': a folder or zip with one sub-folder per domain")
    if (out := check_run_folder(config, options, _describe_starganv2)) is not None:
        from training.train_starganv2 import train as train_starganv2

        click.echo(f"model: {train_starganv2(config, out, resume=options.resume, keep_old=options.keep_old)}")


def _describe_starganv2(config: StarGANv2Run) -> tuple[AnyRun, list[str]]:
    """The configuration and lines about data and networks, for a dry run; raises the errors of a run."""
    from ganmod.distributed import rank_and_world_size
    from training.starganv2.build import build_dataset, build_networks, build_spec, check_batch, mask_notes

    _, world_size = rank_and_world_size()
    check_batch(config.schedule.batch_size, world_size, config.schedule.microbatch)
    dataset = build_dataset(config.data, config.model.img_size, config.runtime.seed)
    networks = build_networks(build_spec(config.model, dataset.domains))
    lines = [f"images: {', '.join(f'{name} {count}' for name, count in dataset.counts.items())}"]
    for name, network in networks._asdict().items():
        lines.append(f"parameters of {name}: {sum(p.numel() for p in network.parameters()):,}")
    return config, lines + mask_notes(config.model)


def _check_modulation(name: str) -> None:
    """click.UsageError for an unknown name, before the data are loaded."""
    from ganmod.modulation import modulation_info

    try:
        modulation_info(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
