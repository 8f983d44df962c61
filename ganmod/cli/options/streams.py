"""Pictures that are no files: built-in styles by name, standard input and output, and a report as JSON."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from configs.limits import FILE_MB, MB
from ganmod.cli.options.outputs import LeftOut
from ganmod.cli.options.paths import InputPath

BUILTIN = "builtin:"
STREAM = "-"


def scratch_folder() -> Path:
    """A folder that is removed when the command ends."""
    ctx = click.get_current_context().find_root()
    if "scratch" not in ctx.meta:
        folder = tempfile.TemporaryDirectory()
        ctx.call_on_close(folder.cleanup)
        ctx.meta["scratch"] = Path(folder.name)
    return ctx.meta["scratch"]


def draw_builtin(name: str) -> Path:
    """builtin:NAME -> a file NAME.png with that style. Raises ValueError for an unknown name."""
    from ganmod.io.images import write_image
    from style_transfer.procedural_styles import builtin_style

    name = name.removeprefix(BUILTIN)
    file = scratch_folder() / f"{name}.png"
    if not file.exists():
        write_image(file, builtin_style(name))
    return file


class ContentPath(InputPath):
    """An existing path, or "-" for an image on standard input."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value) != STREAM:
            return super().convert(value, param, ctx)
        from ganmod.io.image_decoding import open_picture

        limit = FILE_MB.value() * MB
        data = sys.stdin.buffer.read(limit + 1)
        if len(data) > limit:
            self.fail(
                f"standard input has more than {FILE_MB.value():,} MB: {FILE_MB.how_to_raise}", param, ctx
            )
        try:
            with open_picture(io.BytesIO(data)) as image:
                kind = image.format or "png"
        except OSError:  # Pillow knows no such format, too
            self.fail(f"standard input ({len(data)} bytes) is no image, expected a JPEG or PNG", param, ctx)
        except ValueError as error:
            self.fail(f"standard input: {error}", param, ctx)
        file = scratch_folder() / f"stdin.{kind.lower()}"
        file.write_bytes(data)
        return file


def report_options(function: Callable[..., None]) -> Callable[..., None]:
    """--json, and "-" as --out: a PNG on standard output. Messages go to standard error then."""

    @functools.wraps(function)
    def run(*, out: Path, as_json: bool, **options: Any) -> None:
        to_stdout = str(out) == STREAM
        if not (to_stdout or as_json):
            return function(out=out, **options)
        if to_stdout and as_json:
            raise click.UsageError("--json and --out -: both write to standard output, name a file")
        target = scratch_folder() / "stdout.png" if to_stdout else out
        start = time.perf_counter()
        failure: LeftOut | None = None
        with contextlib.redirect_stdout(sys.stderr):
            try:
                function(out=target, **options)
            except LeftOut as error:
                failure = error
        if as_json:
            click.echo(json.dumps(_report(out, time.perf_counter() - start)))
        elif failure is None:
            sys.stdout.buffer.write(target.read_bytes())
            sys.stdout.buffer.flush()
        if failure is not None:
            raise failure
        return None

    return click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")(run)


def _report(out: Path, seconds: float) -> dict[str, Any]:
    import torch
    from PIL import Image

    import ganmod
    from ganmod.io.images import IMAGE_SUFFIXES

    report: dict[str, Any] = {"output": str(out)}
    if out.is_file() and out.suffix.lower() in IMAGE_SUFFIXES:
        with Image.open(out) as image:
            report["size"] = list(image.size)
    versions = {"ganmod": ganmod.__version__, "torch": torch.__version__}
    return report | {"seconds": round(seconds, 3), "versions": versions}
