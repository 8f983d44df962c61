"""`ganmod train`: recipes."""

from __future__ import annotations

import os
from pathlib import Path

import click

from configs.schema import StyleGAN2Run, list_presets, load_run, load_starganv2, load_stylegan2, to_yaml
from ganmod.cli.option_checks import check_device, import_plugins
from ganmod.cli.run_options import changes_of, run_options


@click.group()
def train() -> None:
    """Train a model. Running the same command again continues from the newest checkpoint."""


FOLDER = click.Path(exists=True, file_okay=False)


@train.command()
@click.option(
    "--config",
    default="style-adaconv-slim",
    show_default=True,
    metavar="NAME|PATH",
    help="Preset or YAML file.",
)
@click.option(
    "--content",
    multiple=True,
    type=FOLDER,
    help="Folder of content images; repeatable. None: built-in photos.",
)
@click.option(
    "--style", multiple=True, type=FOLDER, help="Folder of style images; repeatable. None: procedural styles."
)
@click.option(
    "--exclude", multiple=True, type=click.Path(exists=True), help="File with names to leave out, one a line."
)
@click.option(
    "--modulation", help="adaconv, adain, weight_demod, or one of your own (see `ganmod modulations`)."
)
@click.option("--encoder", help="Encoder: vgg19, vgg19-slim or ganmod-slim.")
@click.option("--loss-network", help="Loss network: vgg19, vgg19-slim, vgg19-slim-aux or ganmod-slim.")
@click.option(
    "--feature-weights",
    type=click.Path(exists=True),
    help="Weights of vgg19 or vgg19-slim, where one is used.",
)
@click.option("--size", type=int, help="Side of the training crops in pixels.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16", "float64"]))
@run_options
def style(
    config: str,
    content: tuple[str, ...],
    style: tuple[str, ...],
    exclude: tuple[str, ...],
    modulation: str | None,
    out: Path | None,
    encoder: str | None,
    loss_network: str | None,
    feature_weights: str | None,
    batch: int | None,
    kimg: float | None,
    minutes: float | None,
    size: int | None,
    seed: int | None,
    device: str | None,
    precision: str | None,
    compiled: bool | None,
    resume: bool,
    plugin: tuple[str, ...],
    settings: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train a style-transfer model on folders of content and style images."""
    changes = changes_of(
        {
            "data.content": list(content) or None,
            "data.style": list(style) or None,
            "data.exclude": list(exclude) or None,
            "model.modulation": modulation,
            "model.encoder": encoder,
            "loss.network": loss_network,
            "data.crop": size,
        },
        batch=batch,
        kimg=kimg,
        minutes=minutes,
        seed=seed,
        device=device,
        precision=precision,
        compiled=compiled,
        plugin=plugin,
        settings=settings,
    )
    if feature_weights is not None:
        resolved = load_run(config, changes)
        if resolved.model.encoder != "ganmod-slim":
            changes["model.encoder_weights"] = feature_weights
        if resolved.loss.network != "ganmod-slim":
            changes["loss.network_weights"] = feature_weights
    resolved = load_run(config, changes)
    import_plugins(resolved.plugins)
    _check_modulation(resolved.model.modulation)
    if dry_run:
        click.echo(to_yaml(resolved), nl=False)
        click.echo(f"# presets: {', '.join(list_presets())}")
        from training.style_run import build_model

        model = build_model(resolved.model)
        click.echo(f"# trained parameters: {sum(p.numel() for p in model.trainable().values()):,}")
        return

    if out is None:
        raise click.UsageError("Missing option '--out': the run folder")
    check_device(resolved.runtime.device)
    from training.train_style import train as train_style

    model_file = train_style(resolved, out, resume=resume)
    click.echo(f"model: {model_file}")


@train.command()
@click.option(
    "--config", default="stylegan2-auto", show_default=True, metavar="NAME|PATH", help="Preset or YAML file."
)
@click.option("--data", type=click.Path(exists=True), help="Folder or zip of images of one size.  [required]")
@click.option(
    "--modulation",
    help='adaconv, weight_demod, adain, your own; "adaconv@4-32,weight_demod@64-" by size.',
)
@click.option("--cond/--no-cond", "conditional", default=None, help="Train on the data's labels.")
@click.option("--mirror/--no-mirror", default=None, help="Flip half of the images left to right.")
@click.option(
    "--aug", type=click.Choice(["none", "ada", "fixed", "diffaugment"]), help="What the discriminator sees."
)
@click.option("--gamma", type=float, help="Weight of R1.")
@click.option("--transfer", type=click.Path(exists=True, dir_okay=False), help="Start from this model file.")
@click.option("--freeze-d", type=int, help="Layers of D to keep fixed, from the image on.")
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16", "float16", "float64"]))
@click.option("--metrics-every", type=int, help="Frechet distance every so many snapshots; 0: never.")
@click.option("--metric-features", help="Its feature space, such as squeezenet1_1 or cifar-resnet56.")
@click.option(
    "--feature-weights", type=click.Path(exists=True), help="Weights of the metric's feature network."
)
@run_options
def stylegan2(
    config: str,
    data: str | None,
    modulation: str | None,
    out: Path | None,
    conditional: bool | None,
    mirror: bool | None,
    aug: str | None,
    gamma: float | None,
    batch: int | None,
    kimg: float | None,
    minutes: float | None,
    transfer: str | None,
    freeze_d: int | None,
    seed: int | None,
    device: str | None,
    precision: str | None,
    compiled: bool | None,
    metrics_every: int | None,
    metric_features: str | None,
    feature_weights: str | None,
    resume: bool,
    plugin: tuple[str, ...],
    settings: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train StyleGAN2 with any modulation on images of one size."""
    changes = changes_of(
        {
            "data.path": data,
            "data.conditional": conditional,
            "data.mirror": mirror,
            "model.modulation": modulation,
            "loss.r1_gamma": gamma,
            "augmentation.kind": aug,
            "transfer": transfer,
            "freeze_d": freeze_d,
            "metric.every": metrics_every,
            "metric.features": metric_features,
            "metric.feature_weights": feature_weights,
        },
        batch=batch,
        kimg=kimg,
        minutes=minutes,
        seed=seed,
        device=device,
        precision=precision,
        compiled=compiled,
        plugin=plugin,
        settings=settings,
    )
    resolved = load_stylegan2(config, changes)
    import_plugins(resolved.plugins)
    if not resolved.data.path:
        raise click.UsageError("Missing option '--data': a folder or zip of images of one size")
    check_device(resolved.runtime.device)
    if dry_run:
        _dry_run_stylegan2(resolved)
        return
    if out is None:
        raise click.UsageError("Missing option '--out': the run folder")
    from training.train_stylegan2 import train as train_stylegan2

    click.echo(f"model: {train_stylegan2(resolved, out, resume=resume)}")


def _dry_run_stylegan2(config: StyleGAN2Run) -> None:
    """Print the resolved configuration and the parameter counts; errors as the run itself would raise."""
    from ganmod.feature_spaces import load_feature_space
    from training.distributed import chosen_device
    from training.stylegan2_run import build_dataset, build_networks, resolve, transfer_weights

    dataset = build_dataset(config.data, config.runtime.seed)
    height, width = dataset.image_shape[1:]
    processes = int(os.environ.get("WORLD_SIZE", 1))
    config = resolve(config, (height, width), processes, chosen_device(config.runtime.device))
    G, D = build_networks(config, (height, width), dataset.c_dim)
    if config.transfer is not None:
        transfer_weights(config.transfer, {"G": G, "D": D})
    if config.metric.every:
        load_feature_space(config.metric.features, config.metric.feature_weights)
    click.echo(to_yaml(config), nl=False)
    click.echo(f"# {dataset.num_images} images of {width}x{height} (width x height), labels: {dataset.c_dim}")
    for name, network in (("G", G), ("D", D)):
        click.echo(f"# parameters of {name}: {sum(p.numel() for p in network.parameters()):,}")


@train.command()
@click.option(
    "--config", default="starganv2-afhq", show_default=True, metavar="NAME|PATH", help="Preset or YAML file."
)
@click.option(
    "--data",
    type=click.Path(exists=True),
    help="Folder or zip of images, a sub-folder per domain.  [required]",
)
@click.option(
    "--modulation", help='adain, adaconv, weight_demod, your own; "adaconv@16-64,adain@128-" by size.'
)
@click.option("--size", type=int, help="Side to which all images are resized: 64, 128, 256, 512 or 1024.")
@click.option("--mirror/--no-mirror", default=None, help="Flip half of the images left to right.")
@click.option("--diversity", type=float, help="Weight of the diversity loss at the start.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16", "float64"]))
@run_options
def starganv2(
    config: str,
    data: str | None,
    modulation: str | None,
    size: int | None,
    mirror: bool | None,
    diversity: float | None,
    out: Path | None,
    batch: int | None,
    kimg: float | None,
    minutes: float | None,
    seed: int | None,
    device: str | None,
    precision: str | None,
    compiled: bool | None,
    resume: bool,
    plugin: tuple[str, ...],
    settings: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train StarGAN v2 with any modulation: translation between the domains of a folder."""
    changes = changes_of(
        {
            "data.path": data,
            "data.mirror": mirror,
            "model.modulation": modulation,
            "model.img_size": size,
            "loss.diversity_weight": diversity,
        },
        batch=batch,
        kimg=kimg,
        minutes=minutes,
        seed=seed,
        device=device,
        precision=precision,
        compiled=compiled,
        plugin=plugin,
        settings=settings,
    )
    resolved = load_starganv2(config, changes)
    import_plugins(resolved.plugins)
    if not resolved.data.path:
        raise click.UsageError("Missing option '--data': a folder or zip with one sub-folder per domain")
    check_device(resolved.runtime.device)
    if dry_run:
        from training.starganv2_run import build_dataset, build_networks, build_spec

        dataset = build_dataset(resolved.data, resolved.model.img_size, resolved.runtime.seed)
        click.echo(to_yaml(resolved), nl=False)
        click.echo(f"# images: {', '.join(f'{name} {count}' for name, count in dataset.counts.items())}")
        networks = build_networks(build_spec(resolved, dataset.domains))
        for name, network in networks._asdict().items():
            click.echo(f"# parameters of {name}: {sum(p.numel() for p in network.parameters()):,}")
        return
    if out is None:
        raise click.UsageError("Missing option '--out': the run folder")
    from training.train_starganv2 import train as train_starganv2

    click.echo(f"model: {train_starganv2(resolved, out, resume=resume)}")


def _check_modulation(name: str) -> None:
    """An unknown name is a usage error now, not a failure after the data are loaded."""
    from ganmod.modulation import modulation_info

    try:
        modulation_info(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
