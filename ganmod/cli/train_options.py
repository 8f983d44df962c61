"""The options that all recipes of `ganmod train` share, and their changes of a configuration."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
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
    click.option(
        "--keep-old/--no-keep-old",
        default=True,
        help="With --no-resume: move the earlier run to OUT.old-N, or delete it.",
    ),
    click.option("--yes", "-y", is_flag=True, help="With --no-resume: do not ask."),
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
    keep_old: bool
    yes: bool
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


def stop_on_sigterm(context: click.Context) -> None:
    """Let SIGTERM stop a command as Ctrl-C does, with exit code 3, until the loop handles both itself."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        former = signal.signal(signal.SIGTERM, stop)
        context.call_on_close(lambda: signal.signal(signal.SIGTERM, former))


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
        click.UsageError: for a missing device or --out, for --metrics that would never be computed, and for
            --no-resume without --yes where nobody can be asked.
        RunLockedError: with --no-resume, while another process runs in the folder.
    """
    import_plugins(config.plugins)
    check_device(config.runtime.device)
    _check_names(config)
    if options.metrics is not None and not config.metric.every:
        raise click.UsageError("--metrics are never taken while metric.every is 0: give --metrics-every, too")
    if not options.dry_run:
        if options.out is None:
            raise click.UsageError("Missing option '--out': the run folder")
        if not options.resume:
            ask_to_start_over(options.out, keep_old=options.keep_old, yes=options.yes)
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


def ask_to_start_over(out: Path, *, keep_old: bool, yes: bool) -> None:
    """Return if the checkpoints in a run folder, if any, may be put aside; an error otherwise.

    Of several processes only the first asks.
    """
    from ganmod.distributed import rank_and_world_size
    from training.run.checkpoint import newest_checkpoint
    from training.run.folder import next_old_folder
    from training.run.lock import RunLock

    if rank_and_world_size()[0] > 0 or (newest := newest_checkpoint(out)) is None:
        return
    RunLock(out).release()  # raises while the run goes on
    fate = f"be moved to {next_old_folder(out)}" if keep_old else "be deleted, with all its checkpoints"
    what = f"the run in {out} (newest checkpoint: {newest.name}) will {fate}"
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"--no-resume: {what}. There is no terminal to ask in: give --yes, too")
    if not click.confirm(f"{what}. Begin again?", err=True):
        raise click.ClickException("nothing was changed")
