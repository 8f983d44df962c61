"""The sheet of `ganmod stylize --sheet`: contents x styles x the values of one control, to choose by eye."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from torch import Tensor
from tqdm import tqdm

from ganmod.cli.style.arguments import StylePlan, note_undirected, read_usable
from ganmod.io.images import ImageError, make_grid, resize_short_side, write_image
from metrics.html_report import Report
from style_transfer.controls import Controls
from style_transfer.model import StyleTransferModel

SHEET, PAGE = "sheet.jpg", "sheet.html"
_CELL = 192  # pixels, short side of a result where no --size is given
LIMIT = 400  # pictures on one page
NUMBERS = ("alpha", "rotate-style", "style-scale")
WORDS = ("preserve-color",)


class Sweep(NamedTuple):
    """A control and its values on the sheet."""

    control: str
    values: tuple[float | str, ...]

    def over(self, controls: Controls) -> Iterator[tuple[str, Controls]]:
        """(label, controls with the value) for each value."""
        for value in self.values:
            label = f"{self.control} {value if isinstance(value, str) else f'{value:g}'}"
            yield label, _replace_control(controls, self.control, value)


class SweepArgument(click.ParamType):
    """CONTROL=V1,V2,... -> Sweep."""

    name = "sweep"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Sweep:
        if isinstance(value, Sweep):
            return value
        control, _, text = str(value).partition("=")
        if control not in (*NUMBERS, *WORDS):
            known = ", ".join((*NUMBERS, *WORDS))
            self.fail(
                f"{value!r}: expected CONTROL=VALUE,VALUE,... with CONTROL one of {known}, such as "
                "alpha=0.25,0.5,1",
                param,
                ctx,
            )
        values: list[float | str] = []
        for part in text.split(","):
            try:
                values.append(part.strip() if control in WORDS else float(part))
                _replace_control(Controls(), control, values[-1])
            except ValueError as error:
                reason = f"{part!r} is no number" if "could not convert" in str(error) else str(error)
                self.fail(f"{value!r}: {reason}", param, ctx)
        return Sweep(control, tuple(values))


def _replace_control(controls: Controls, control: str, value: float | str) -> Controls:
    changes: dict[str, Any] = {control.replace("-", "_"): value}
    return replace(controls, **changes)


def write_sheet(
    out: Path,
    model: StyleTransferModel,
    contents: Mapping[Path, str],
    plans: Sequence[StylePlan],
    sweep: Sweep,
    *,
    controls: Controls,
    size: int | None,
    style_size: int | None = None,
    stylize: Callable[[Tensor, list[Any]], Tensor] | None = None,
) -> list[ImageError]:
    """Write SHEET and PAGE into the folder `out`; return the errors of images that were left out.

    One row per content and style: the content, the style (if it is one image), then the control's values.

    Args:
        out: the folder.
        model: computes the pictures.
        contents: {file: name}.
        plans: the styles.
        sweep: the control and its values.
        controls: values of the other controls.
        size: short side of a picture; None: 192.
        style_size: as for `StylePlan.load`.
        stylize: as for `ControlledStyle.apply`.

    Raises:
        click.UsageError: for more than 400 pictures.
        ImageError: if no row is left.
    """
    total = len(contents) * len(plans) * len(sweep.values)
    if total > LIMIT:
        raise click.UsageError(
            f"--sheet: {len(contents)} contents x {len(plans)} styles x {len(sweep.values)} values are "
            f"{total} pictures, expected at most {LIMIT}: give fewer"
        )
    unusable: list[ImageError] = []
    images: dict[Path, np.ndarray] = {}
    for file in contents:
        try:
            images[file] = read_usable(file, short_side=size or _CELL)
        except ImageError as error:
            unusable.append(error)
    labels = [label for label, _ in sweep.over(controls)]
    columns = ["content", "style", *labels]
    bar = tqdm(total=len(images) * len(plans) * len(sweep.values), unit="img", disable=None)
    by_plan: list[tuple[StylePlan, dict[Path, list[np.ndarray]]]] = []
    for plan in plans:
        try:
            loaded = [plan.load(model, changed, style_size=style_size) for _, changed in sweep.over(controls)]
        except ImageError as error:
            unusable.append(error)
            bar.update(len(images) * len(labels))
            continue
        results: dict[Path, list[np.ndarray]] = {file: [] for file in images}
        for file, image in images.items():
            for styled in loaded:
                results[file].append(styled.apply(image, size=size or _CELL, stylize=stylize))
                bar.update()
        by_plan.append((plan, results))
    bar.close()
    if not images or not by_plan:
        raise unusable[0]
    report = Report(f"{sweep.control} at {len(labels)} values")
    report.paragraph(
        f"{len(images)} contents x {len(by_plan)} styles, from left to right: {', '.join(labels)}."
    )
    rows: list[list[np.ndarray | None]] = []
    shown = {file: resize_short_side(image, size or _CELL) for file, image in images.items()}
    for file in images:
        report.heading(contents[file])
        for plan, results in by_plan:
            style = plan.images()[0] if plan.picture.exists() else None
            pictured = None if isinstance(style, str) else style
            row: list[np.ndarray | None] = [shown[file], pictured, *results[file]]
            rows.append(row)
            grid = make_grid([row], column_labels=columns, cell_size=shown[file].shape[:2])
            report.figure(grid, f"{contents[file]} in the style of {plan.name}")
    height, width = (max(image.shape[i] for image in shown.values()) for i in (0, 1))
    write_image(out / SHEET, make_grid(rows, column_labels=columns, cell_size=(height, width)))
    swept = [changed for _, changed in sweep.over(controls)]
    for line in note_undirected([plan for plan, _ in by_plan], *swept):
        report.paragraph(line)
    report.write(out / PAGE)
    return unusable
