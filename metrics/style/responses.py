"""The second table of style-transfer models: how their strokes respond to turned and mixed styles."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from metrics.style.interpolation import InterpolationScore
from metrics.style.rotation import RotationScore
from metrics.style.table import standard_error
from metrics.table import Table

# Response: heading of its column.
RESPONSES = {
    "rotation_response": "rotation response",
    "strength": "strength",
    "emd_turned": "EMD to turned style",
    "emd_unturned": "to unturned",
    "emd_across": "to t + 90",
    "lpips_range": "LPIPS range over t",
    "interpolation_apart": "ends apart",
    "interpolation_monotone": "monotone",
    "interpolation_halfway": "half-way at",
    "interpolation_strength": "strength kept half-way",
    "undirected_patch_swd": "patch-SWD, no direction",
}
_DEGREES = ("emd_turned", "emd_unturned", "emd_across", "interpolation_apart")


@dataclass(frozen=True)
class ResponseRow:
    """A row of the table.

    Args:
        model: its name.
        means: {name in RESPONSES: mean over styles and contents}.
        errors: {name: standard error of the mean}.
        values: {name: [(content, style, value)]}; the indices count the rotation contents, and the styles
            with a direction (for undirected_patch_swd, those without).
        rotation: all single scores.
        interpolation: all single scores.
    """

    model: str
    means: Mapping[str, float]
    errors: Mapping[str, float]
    values: Mapping[str, list[tuple[int, int, float]]] = field(repr=False)
    rotation: Sequence[RotationScore] = field(repr=False)
    interpolation: Sequence[InterpolationScore] = field(repr=False)


def make_response_row(
    model: str,
    rotation: Sequence[RotationScore],
    interpolation: Sequence[InterpolationScore],
    structure: Sequence[tuple[int, int, float]],
) -> ResponseRow:
    """A row from `score_rotation`, `score_interpolation` and `score_structure`; each may be empty."""
    columns = {
        "rotation_response": [(s.content, s.style, s.response) for s in rotation],
        "strength": [(s.content, s.style, s.strength) for s in rotation],
        "emd_turned": [(s.content, s.style, s.emd_turned) for s in rotation],
        "emd_unturned": [(s.content, s.style, s.emd_unturned) for s in rotation],
        "emd_across": [(s.content, s.style, s.emd_across) for s in rotation],
        "lpips_range": [(s.content, s.style, s.lpips_range) for s in rotation if s.lpips_range is not None],
        "interpolation_apart": [(s.content, s.style, s.apart) for s in interpolation],
        "interpolation_monotone": [(s.content, s.style, float(s.monotone)) for s in interpolation],
        "interpolation_halfway": [(s.content, s.style, s.halfway) for s in interpolation],
        "interpolation_strength": [(s.content, s.style, s.kept_strength) for s in interpolation],
        "undirected_patch_swd": list(structure),
    }
    values = {name: column for name, column in columns.items() if column}
    return ResponseRow(
        model=model,
        means={name: statistics.fmean(i[2] for i in column) for name, column in values.items()},
        errors={name: standard_error(column) for name, column in values.items()},
        values=values,
        rotation=list(rotation),
        interpolation=list(interpolation),
    )


def response_difference(first: ResponseRow, second: ResponseRow, name: str) -> tuple[float, float]:
    """Mean of second - first over the same styles and contents, and its standard error.

    `name` is one of RESPONSES that both rows have. Raises ValueError if their images differ.
    """
    a, b = ({(c, s): value for c, s, value in row.values[name]} for row in (first, second))
    if a.keys() != b.keys():
        raise ValueError(f"{first.model} and {second.model} were measured on other images: use the same")
    differences = [(*pair, b[pair] - a[pair]) for pair in a]
    return statistics.fmean(i[2] for i in differences), standard_error(differences)


def response_table(rows: Sequence[ResponseRow]) -> Table:
    """The table of the rows: mean (standard error); distances in degrees."""
    names = [name for name in RESPONSES if any(name in row.means for row in rows)]
    lines = []
    for row in rows:
        cells = [row.model]
        for name in names:
            digits = 1 if name in _DEGREES else 3 if name.endswith(("swd", "range")) else 2
            shown = (
                f"{row.means[name]:.{digits}f} ({row.errors[name]:.{digits}f})" if name in row.means else ""
            )
            cells.append(shown)
        lines.append(cells)
    return Table(["model", *(RESPONSES[name] for name in names)], lines)


def response_values(row: ResponseRow) -> dict[str, float]:
    """Means and standard errors under plain names, NAME and NAME_se."""
    return {
        k: v for name in row.means for k, v in ((name, row.means[name]), (f"{name}_se", row.errors[name]))
    }


def responses_to_json(rows: Sequence[ResponseRow]) -> list[dict[str, Any]]:
    """Plain values for json.dumps: means, standard errors, and all single measurements, rounded."""
    return [
        {"model": row.model}
        | response_values(row)
        | {"rotation": _columns(row.rotation), "interpolation": _columns(row.interpolation)}
        | {"undirected_patch_swd_each": _round(row.values.get("undirected_patch_swd", []))}
        for row in rows
    ]


def _columns(scores: Sequence[RotationScore] | Sequence[InterpolationScore]) -> dict[str, list[Any]]:
    """{field: its value in every score}; repeats no names."""
    each = [asdict(score) for score in scores]
    return {name: [_round(score[name]) for score in each] for name in (each[0] if each else {})}


def _round(value: Any) -> Any:
    """Round floats inside lists and tuples to three digits after the point."""
    if isinstance(value, float):
        return round(value, 3)
    return [_round(v) for v in value] if isinstance(value, list | tuple) else value
