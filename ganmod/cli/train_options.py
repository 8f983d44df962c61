"""The options that all recipes of `ganmod train` share, and their changes of a configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from configs.schema import AnyRun, parse_setting, to_yaml
from configs.style import StyleRun
from configs.stylegan2 import StyleGAN2Run
from ganmod.cli.options.checks import check_device, import_plugins, usage_errors
from ganmod.cli.options.paths import InputPath, OutputPath, refuse_inputs
from ganmod.cli.options.shared import Number, plugin_option

BASIC_OPTIONS = (
    click.option("--out", type=OutputPath(file_okay=False), help="Run folder.  [required]"),
    click.option("--batch", type=int, help="Images per step, over all processes."),
    click.option("--kimg", type=Number(), help="Length, in thousands of images."),
    click.option(
        "--minutes",
        type=Number(),
        help="End after so many minutes of training, if --kimg is not reached before.",
    ),
    click.option("--seed", type=int),
    click.option("--device", help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--compile/--no-compile", "compiled", default=None, help="torch.compile what is differentiated once."
    ),
)
METRICS = (
    click.option(
        "--metrics",
        metavar="LIST",
        help="Measure during training: fid10k is the FID of 10,000 samples, fd5k the same distance in "
        "--metric-features; kid5k and kd5k the kernel distances. The best model by the first is kept.",
    ),
    click.option("--metrics-every", type=int, help="Every so many snapshots; 0: never."),
    click.option(
        "--metric-features", help="Feature space of fd and kd, such as squeezenet1_1 or cifar-resnet56."
    ),
)
OTHERS = (
    click.option("--resume/--no-resume", default=True, help="Continue the run in --out, if there is one."),
    plugin_option,
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other key, e.g. model.style_dim=64.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Print the resolved configuration and parameter counts, and stop."
    ),
)


@dataclass(frozen=True)
class RunOptions:
    """Values of the options that every recipe has; None: that of the configuration."""

    config: str
    modulation: str | None
    out: Path | None
    batch: int | None
    kimg: float | None
    minutes: float | None
    seed: int | None
    device: str | None
    precision: str | None
    compiled: bool | None
    metrics: str | None
    metrics_every: int | None
    metric_features: str | None
    metric_weights: str | None
    resume: bool
    plugin: tuple[str, ...]
    settings: tuple[str, ...]
    dry_run: bool

    def changes(self, recipe_options: dict[str, Any]) -> dict[str, Any]:
        """{dotted.key: value} of all options set: those of the recipe, then the shared ones, then --set."""
        names = None if self.metrics is None else [part.strip() for part in self.metrics.split(",")]
        options = recipe_options | {
            "model.modulation": self.modulation,
            "schedule.batch_size": self.batch,
            "schedule.total_kimg": self.kimg,
            "schedule.minutes": self.minutes,
            "runtime.seed": self.seed,
            "runtime.device": self.device,
            "runtime.precision": self.precision,
            "runtime.compile": self.compiled,
            "metric.names": names,
            "metric.every": self.metrics_every,
            "metric.features": self.metric_features,
            "metric.feature_weights": self.metric_weights,
            "plugins": list(self.plugin) or None,
        }
        changes = {key: value for key, value in options.items() if value is not None}
        return changes | dict(parse_setting(text) for text in self.settings)


def config_option(preset: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """--config with the recipe's default."""
    return click.option(
        "--config", default=preset, show_default=True, metavar="NAME|PATH", help="Preset or YAML file."
    )


def run_options(
    *, precisions: Sequence[str], weights: Sequence[str] = ("--metric-weights",)
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator that adds the options of every recipe, which the command takes first, as one RunOptions.

    --config and --modulation, whose help differs, are added by each recipe.

    Args:
        precisions: choices of --precision.
        weights: names of the option for the weights of the metric's feature network.
    """
    options = (
        click.option("--precision", type=click.Choice(precisions)),
        *BASIC_OPTIONS,
        *METRICS,
        click.option(
            *weights,
            "metric_weights",
            type=InputPath(text=True),
            help="Weights of --metric-features, or of Inception where it is the only space measured in.",
        ),
        *OTHERS,
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def call(**values: Any) -> None:
            shared = RunOptions(**{field.name: values.pop(field.name) for field in fields(RunOptions)})
            command(shared, **values)

        decorated: Callable[..., None] = call
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _check_names(config: AnyRun) -> None:
    """click.UsageError for names that nothing knows, also where this run does not use them."""
    from ganmod.cli.measure.options import check_space_name
    from training.augment.diffaugment import parse_policy

    check_space_name(config.metric.features, "metric.features")
    if isinstance(config, StyleGAN2Run):
        with usage_errors():
            parse_policy(config.augmentation.diffaugment_policy)


def _check_out(out: Path, config: AnyRun) -> None:
    """click.UsageError for a run folder inside the data, or one that holds the model to start from."""
    data = (*config.data.content, *config.data.style) if isinstance(config, StyleRun) else (config.data.path,)
    refuse_inputs(out, also=map(Path, data))
    transfer = getattr(config, "transfer", None)  # StarGAN v2 has none
    if transfer is not None and out.is_dir() and out.resolve() == Path(transfer).resolve().parent:
        raise click.UsageError(
            f"--transfer {transfer} lies in the run folder {out}, whose models are overwritten: give another "
            "--out"
        )


def check_run_folder(
    config: AnyRun, options: RunOptions, describe: Callable[[Any], tuple[AnyRun, list[str]]]
) -> Path | None:
    """The folder of a run that can begin; None after a dry run.

    Args:
        config: of the run.
        options: of the command line.
        describe: config -> the resolved one, and lines about data and networks, which a dry run prints.

    Raises:
        click.UsageError: for a missing device or --out, and for --metrics that would never be computed.
    """
    import_plugins(config.plugins)
    check_device(config.runtime.device)
    _check_names(config)
    if options.metrics is not None and not config.metric.every:
        raise click.UsageError("--metrics are never taken while metric.every is 0: give --metrics-every, too")
    if not options.dry_run:
        if options.out is None:
            raise click.UsageError("Missing option '--out': the run folder")
        _check_out(options.out, config)
        return options.out
    resolved, lines = describe(config)
    if config.metric.every:
        from ganmod.distributed import resolve_device
        from training.run.metric_hook import wanted_metrics

        wanted_metrics(config.metric, resolve_device(config.runtime.device))
    click.echo(to_yaml(resolved), nl=False)
    for line in lines:
        click.echo(f"# {line}")
    return None
