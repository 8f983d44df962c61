"""`ganmod-lite CONTENT STYLE [STYLE...] -o OUT`: arguments and their checks; the work is in `jobs`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ganmod_lite import __version__
from ganmod_lite.errors import LiteError, WrongUsage

USAGE = """ganmod-lite CONTENT STYLE[:WEIGHT] [STYLE[:WEIGHT] ...] -o OUT [options]
       ganmod-lite CONTENT --sheet -o OUT [options]
       ganmod-lite --list"""
DESCRIPTION = """Give a photo the style of a painting, on the CPU, without PyTorch.

CONTENT and STYLE are pictures or folders; folders give every pair. Several
STYLEs are mixed by their weights: a.jpg:0.7 b.jpg:0.3. builtin:NAME is a style
of this package. "-" is standard input, and as OUT a PNG on standard output."""
EPILOG = """Clips (.mp4, .mov, .mkv ...) are written as .mp4 with their sound and need
pip install 'ganmod-lite[video]': the package av, whose wheels contain FFmpeg
with x264 under the GPL.

Exit code: 0, 1 if something cannot be read or written, 2 for wrong usage."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise WrongUsage(f"{message}; see ganmod-lite --help")


def make_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = _Parser(
        prog="ganmod-lite",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("paths", nargs="*", help=argparse.SUPPRESS)
    add("-o", "--out", metavar="OUT", help="picture or clip to write, or a folder for several")
    add("--alpha", type=_number(0, 1), default=1.0, metavar="A", help="strength of the style, 0 to 1  [1]")
    add(
        "--size",
        type=_whole(16),
        metavar="N",
        help="short side of the result in pixels  [as CONTENT; of a sheet's pictures 256]",
    )
    add(
        "--style-size",
        type=_whole(16),
        metavar="N",
        help="short side to which pictures of styles are brought  [512]",
    )
    add("--sheet", action="store_true", help="CONTENT in all built-in styles, in one picture")
    add("--list", action="store_true", help="print the names of the built-in styles")
    add("--quality", type=_whole(1, 100), default=95, metavar="Q", help="of JPEG and WebP, 1 to 100  [95]")
    add(
        "--tile",
        type=_whole(16),
        metavar="N",
        help="side of the tiles in pixels: small ones need less memory, the result is the same  [192 to 256]",
    )
    add(
        "--threads",
        type=_whole(1),
        metavar="N",
        help="computed in parallel  [one for each physical core, at most 8]",
    )
    add("--model", metavar="DIR", help="model by `ganmod export --stages -o DIR`  [the one in the package]")
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--version", action="version", version=f"ganmod-lite {__version__}")
    return parser


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A converter of whole numbers in a range."""

    def convert(text: str) -> int:
        expected = f"from {low} to {high}" if high else f"from {low} on"
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number {expected}") from None
        if value < low or (high and value > high):
            raise argparse.ArgumentTypeError(f"got {value}, expected a whole number {expected}")
        return value

    return convert


def _number(low: float, high: float) -> Callable[[str], float]:
    """A converter of numbers in a range."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from {low:g} to {high:g}")
        return value

    return convert


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors are one line on standard error."""
    try:
        options = make_parser().parse_intermixed_args(arguments)
        from ganmod_lite.jobs import run

        return run(options)
    except LiteError as error:
        print(f"ganmod-lite: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        print(
            "ganmod-lite: the memory is used up, expected enough for the full picture: give a smaller "
            "--size, --tile 128 or --threads 1",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("ganmod-lite: interrupted", file=sys.stderr)
        return 130
