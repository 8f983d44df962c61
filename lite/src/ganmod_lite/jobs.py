"""What the command does with its arguments: pictures, sheets and clips, and reports of them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganmod_lite import __version__
from ganmod_lite.errors import LiteError, WrongUsage
from ganmod_lite.files import STREAM, check_exists, check_out, is_clip, read_manifest, result_names
from ganmod_lite.progress import ProgressLine
from ganmod_lite.styles import StylePlan, builtin_names, load_builtin, load_plan, plan_styles

if TYPE_CHECKING:
    import numpy as np

    from ganmod_lite.stylizer import Stylizer

SHEET_SIDE = 256  # pixels: short side of its pictures
# Of glibc's mallopt: blocks above 20 MB are given back when free (M_MMAP_THRESHOLD), smaller ones are kept
# (M_TRIM_THRESHOLD), and threads share one heap (M_ARENA_MAX).
_MALLOC = {-3: 20_000_000, -1: 128_000_000, -8: 1}


def run(options: argparse.Namespace) -> int:
    """Do what parsed options say and return the exit code. Raises LiteError."""
    begin = time.monotonic()
    if options.list:
        return _list_styles(options)
    if not options.paths:
        raise WrongUsage(
            "no CONTENT: expected a picture or a folder, as in ganmod-lite photo.jpg style.jpg -o out.png"
        )
    content, *styles = options.paths
    if options.out is None:
        raise WrongUsage("no --out: expected the file or folder to write, as in -o out.png")
    check_exists(content)
    if options.sheet:
        if styles:
            raise WrongUsage(f"--sheet draws all built-in styles: leave out {styles[0]}")
        report = _draw_sheet(options, content)
        return _finish(options, report, begin)
    if not styles:
        raise WrongUsage("no STYLE: expected a picture, a folder or builtin:NAME (see --list)")
    plans = plan_styles(styles)
    if [content, *(s.source for plan in plans for s in plan.sources)].count(STREAM) > 1:
        raise WrongUsage("- stands for standard input, which can be read once: name files for the others")
    if options.style_size and all(s.is_builtin for plan in plans for s in plan.sources):
        raise WrongUsage("--style-size is for pictures of styles, and all are built in: leave it out")
    clip = is_clip(content)
    several = Path(content).is_dir() or len(plans) > 1 or any(Path(text).is_dir() for text in styles)
    if clip and several:
        raise WrongUsage(f"{content} is a clip, which takes one style or a mixture: give pictures, no folder")
    inputs = [content, *(s.source for plan in plans for s in plan.sources), *styles]
    if options.json and options.out == STREAM:
        raise WrongUsage("--json and --out -: both write to standard output, name a file")
    check_out(options.out, inputs, several=several, clip=clip)
    if clip:
        report = _stylize_clip(options, content, plans[0])
    elif several:
        report = _stylize_pairs(options, content, plans)
    else:
        report = _stylize_one(options, content, plans[0])
    return _finish(options, report, begin)


def _list_styles(options: argparse.Namespace) -> int:
    folder, _ = read_manifest(options.model)
    names = builtin_names(folder)
    print(json.dumps({"styles": names}) if options.json else "\n".join(names))
    return 0


def _open(options: argparse.Namespace) -> Stylizer:
    _give_back_large_blocks()
    from ganmod_lite.stylizer import Stylizer, check_sizes

    check_sizes(options.size, options.tile)
    return Stylizer(options.model, threads=options.threads)


def _give_back_large_blocks() -> None:
    """Set glibc's memory so that large maps leave no gaps, which would let the process grow by half."""
    if not sys.platform.startswith("linux"):
        return
    import contextlib
    import ctypes

    with contextlib.suppress(AttributeError, OSError):  # another C library
        library = ctypes.CDLL(None)
        for name, value in _MALLOC.items():
            library.mallopt(name, value)


def _stylize(
    options: argparse.Namespace, stylizer: Stylizer, pixels: np.ndarray, parameters: np.ndarray, label: str
) -> np.ndarray:
    """Apply a style with --size and --tile; a long computation shows its progress."""
    line = ProgressLine(label)
    try:
        return stylizer.apply(pixels, parameters, size=options.size, tile=options.tile, progress=line)
    finally:
        line.close()


def _predict_own(options: argparse.Namespace, stylizer: Stylizer, pixels: np.ndarray) -> np.ndarray | None:
    """With --alpha: the parameters predicted from the content itself; None where they do not count."""
    return None if options.alpha == 1 else stylizer.predict(pixels)


def _weaken(options: argparse.Namespace, own: np.ndarray | None, parameters: np.ndarray) -> np.ndarray:
    """With --alpha: from the content's own parameters, at 0, to the style's, at 1."""
    if own is None:
        return parameters
    from ganmod_lite.stylizer import mix

    return mix([own, parameters], [1 - options.alpha, options.alpha])


def _stylize_one(options: argparse.Namespace, content: str, plan: StylePlan) -> dict[str, Any]:
    from ganmod_lite.images import check_format, read_image, size_after, write_image

    stylizer = _open(options)
    pixels = read_image(content)
    height, width = size_after(pixels.shape[0], pixels.shape[1], options.size)
    check_format(options.out, width, height)
    parameters = load_plan(stylizer, plan, size=options.style_size)
    parameters = _weaken(options, _predict_own(options, stylizer, pixels), parameters)
    stylizer.unload_predictor()
    result = _stylize(options, stylizer, pixels, parameters, content)
    write_image(options.out, result, quality=options.quality)
    return _describe(options.out, result, plan)


def _stylize_pairs(options: argparse.Namespace, content: str, plans: list[StylePlan]) -> dict[str, Any]:
    """Every content in every style; those that cannot be used are left out and listed."""
    from ganmod_lite.images import read_image, write_image

    stylizer = _open(options)
    results: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    names = result_names(content)
    own: dict[str, np.ndarray | None] = {}  # parameters of the contents themselves
    for plan in plans:
        try:
            parameters = load_plan(stylizer, plan, size=options.style_size)
        except LiteError as error:
            left_out[plan.name] = str(error)
            continue
        for file, name in names.items():
            if file in left_out:
                continue
            out = str(Path(options.out) / f"{name}--{plan.name}.png")
            try:
                pixels = read_image(file)
            except LiteError as error:
                left_out[file] = str(error)
                continue
            if file not in own:
                own[file] = _predict_own(options, stylizer, pixels)
            result = _stylize(options, stylizer, pixels, _weaken(options, own[file], parameters), out)
            write_image(out, result)
            results.append({"content": file} | _describe(out, result, plan))
    return {
        "output": options.out,
        "results": results,
        "left_out": list(left_out.values()),
        "styles": [plan.name for plan in plans],
    }


def _draw_sheet(options: argparse.Namespace, content: str) -> dict[str, Any]:
    if Path(content).is_dir() or is_clip(content):
        raise WrongUsage(f"--sheet takes one picture, got {content}: name a picture")
    check_out(options.out, [content], several=False)
    if options.json and options.out == STREAM:
        raise WrongUsage("--json and --out -: both write to standard output, name a file")
    from ganmod_lite.images import read_image, resize_short_side, to_pixels, to_planes, write_image
    from ganmod_lite.sheet import draw_sheet

    stylizer = _open(options)
    names = builtin_names(stylizer.folder)
    if not names:
        raise LiteError(f"the model in {stylizer.folder} has no built-in styles: expected some in styles/")
    pixels = to_pixels(resize_short_side(to_planes(read_image(content)), options.size or SHEET_SIDE))
    cells = {"photo": pixels}
    own = _predict_own(options, stylizer, pixels)
    line = ProgressLine("sheet")
    for index, name in enumerate(names):
        chosen = _weaken(options, own, load_builtin(stylizer, name))
        cells[name] = stylizer.apply(pixels, chosen, tile=options.tile)
        line(index + 1, len(names))
    line.close()
    sheet = draw_sheet(cells)
    write_image(options.out, sheet, quality=options.quality)
    return {"output": options.out, "size": [sheet.shape[1], sheet.shape[0]], "styles": names}


def _stylize_clip(options: argparse.Namespace, content: str, plan: StylePlan) -> dict[str, Any]:
    from ganmod_lite.video import convert_clip, first_frame

    stylizer = _open(options)
    parameters = load_plan(stylizer, plan, size=options.style_size)
    if options.alpha < 1:  # the first frame's share counts for all
        own = _predict_own(options, stylizer, first_frame(content))
        parameters = _weaken(options, own, parameters)
    line = ProgressLine(content)
    try:
        done = convert_clip(
            stylizer, content, options.out, parameters, size=options.size, tile=options.tile, progress=line
        )
    finally:
        line.close()
    for note in done.notes:
        print(f"ganmod-lite: {note}", file=sys.stderr)
    return {
        "output": options.out,
        "size": list(done.size),
        "frames": done.num_frames,
        "notes": list(done.notes),
        "styles": [style.name for style in plan.sources],
        "weights": list(plan.weights),
    }


def _describe(out: str, result: np.ndarray, plan: StylePlan) -> dict[str, Any]:
    """What is said of a picture: file, width and height, styles and their weights."""
    return {
        "output": out,
        "size": [result.shape[1], result.shape[0]],
        "styles": [style.name for style in plan.sources],
        "weights": list(plan.weights),
    }


def _finish(options: argparse.Namespace, report: dict[str, Any], begin: float) -> int:
    """Print the report; exit code 1 if something was left out."""
    seconds = time.monotonic() - begin
    left_out = report.get("left_out", [])
    if options.json:
        print(json.dumps(report | {"seconds": round(seconds, 3), "versions": _versions()}))
    elif options.out != STREAM:
        if "results" in report:
            what = f"{len(report['results'])} pictures to {options.out}"
        else:
            width, height = report["size"]
            frames = f", {report['frames']} frames" if "frames" in report else ""
            what = f"{options.out} ({width} x {height}{frames})"
        print(f"wrote {what} in {seconds:.1f} s")
    for message in left_out:
        print(f"ganmod-lite: left out: {message}", file=sys.stderr)
    return 1 if left_out else 0


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"ganmod-lite": __version__, "python": sys.version.split()[0]}
    for name in ("onnxruntime", "numpy", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # such as another build of onnxruntime
            found[name] = "unknown"
    return found
