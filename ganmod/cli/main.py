"""The command `ganmod`; subcommands are imported when they are called: --help needs no torch."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings

import click

from ganmod.cli.failures import FAILED, describe_click_error, describe_failure, prepare_streams, show_failure
from ganmod.hidden_packages import HiddenPackageError, check_packages

STOPPED = 3  # exit codes; 2 is wrong usage
TRACEBACK = "--traceback"

COMMANDS = {  # name: (module, attribute, one line for --help)
    "quickstart": (
        "ganmod.cli.quickstart",
        "quickstart",
        "See it work: stylise, train the model on one style, read a report.",
    ),
    "stylize": (
        "ganmod.cli.style.stylize",
        "stylize",
        "Stylise an image, or a folder of contents x a folder of styles.",
    ),
    "optimize": (
        "ganmod.cli.style.optimize",
        "optimize",
        "Stylise by optimising the pixels: slow, the quality models are held against.",
    ),
    "train": ("ganmod.cli.train", "train", "Train a model: `ganmod train style|stylegan2|starganv2`."),
    "generate": (
        "ganmod.cli.gan.generate",
        "generate",
        "Images of a trained generator: seeds, style mixing, walks.",
    ),
    "directions": (
        "ganmod.cli.gan.directions",
        "directions",
        "Show the directions in a generator's w that change most.",
    ),
    "fid": ("ganmod.cli.measure.fid", "fid", "FID, KID, precision and recall of images against real ones."),
    "ppl": (
        "ganmod.cli.measure.ppl",
        "ppl",
        "Perceptual path length of a generator: how smooth its latent space is.",
    ),
    "compare": (
        "ganmod.cli.compare.command",
        "compare",
        "Compare training runs by modulation, or models: `ganmod compare runs|style`.",
    ),
    "translate": (
        "ganmod.cli.gan.translate",
        "translate_command",
        "Translate photos between domains with a trained StarGAN v2.",
    ),
    "project": (
        "ganmod.cli.gan.project",
        "project_command",
        "Find the latent of an image in a trained generator.",
    ),
    "export": ("ganmod.cli.export", "export", "Write a trained model as ONNX or torch.export files."),
    "web": ("ganmod.cli.web.command", "web", "Stylise in the browser: serve the page, or write its folder."),
    "data": ("ganmod.cli.data", "data", "Image data sets for GANs: `ganmod data pack`, `ganmod data info`."),
    "modulations": ("ganmod.cli.modulations", "modulations", "List the modulations and their options."),
    "weights": (
        "ganmod.cli.weights",
        "weights",
        "List the files of pretrained weights, and what is there.",
    ),
    "import": (
        "ganmod.cli.import_model",
        "import_model",
        "Convert foreign weights: `ganmod import adain|wct|stylegan2-ada|stylegan2-rosinality|starganv2`.",
    ),
    "bench": (
        "ganmod.cli.bench.command",
        "bench",
        "Measure speed against an alternative: `ganmod bench style|stylize|stylegan2|starganv2`.",
    ),
}


class LazyGroup(click.Group):
    """A group that imports the modules of its commands on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ganmod")
@click.option(
    TRACEBACK,
    is_flag=True,
    expose_value=False,
    help="Show where an error came from; at any place in the line.",
)
def cli() -> None:
    """Style modulation for image models: AdaIN, weight demodulation and AdaConv as interchangeable parts.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 stopped by a signal (the same command continues).
    """


def main(command: click.Command = cli) -> None:
    """Run a command: whatever ends it is one message and an exit code; --traceback shows its place."""
    prepare_streams()
    # Pillow's hint at 89 megapixels: ours is an error, at `configs.limits.MEGAPIXELS`.
    warnings.filterwarnings("ignore", message="Image size .* could be decompression bomb")
    arguments = [text for text in sys.argv[1:] if text != TRACEBACK]
    try:
        check_packages()
    except HiddenPackageError as error:  # nothing of ours can be imported, such as `show_failure` does
        click.echo(f"Error: {error}", err=True)
        sys.exit(FAILED)
    try:
        command(arguments, standalone_mode=False)
    except click.ClickException as error:
        show_failure(describe_click_error(error))
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        show_failure("stopped")
        sys.exit(STOPPED)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # Python flushes it at its end
        sys.exit(FAILED)
    except Exception as error:
        message, code = describe_failure(error, command, arguments)
        if len(arguments) < len(sys.argv) - 1:
            traceback.print_exception(error)
        show_failure(message)
        sys.exit(code)


if __name__ == "__main__":
    main()
