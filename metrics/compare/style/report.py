"""The result of a comparison of style-transfer models: its tables, JSON and CSV, its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganmod.io.atomic_write import atomic_write_text
from metrics.compare.style.exhibits import Exhibits
from metrics.compare.style.pairs import StylePairs, pairs_to_json
from metrics.html_report import Report
from metrics.style import responses as style_responses
from metrics.style import table as style_table
from metrics.style.responses import ResponseRow
from metrics.style.rotation import TurnedStyle
from metrics.style.table import StyleRow
from metrics.table import Table

Differences = Mapping[str, Mapping[str, tuple[float, float]]]

EXPLANATIONS = (
    "Content loss: relu4_1, squared differences. Style losses: mean and deviation, Gram and shifted Gram "
    "matrices of relu1_1 to relu4_1, all of features divided by their root mean square. SSIM: of the luma, "
    "higher is more similar. Patch-SWD: of 7 x 7 luma patches after matching the histogram. Seconds: for a "
    "square image, with predicted style parameters; s/style is the time to predict them. Gap: content loss + "
    "3 * style loss, divided by the same sum of pixels optimised for it, pair by pair; 1 equals the optimum. "
    "Lattice: share of the energy in smooth regions of the content that all results have at the same "
    "directions and periods, in excess of their styles.",
    "Rotation response: a style turned by 0, 15 ... 165 degrees, cropped to one scale; A1 / (A0 + A1) of the "
    "orientation moments of the results where the content is flat: 1 if strokes turn with the style, 0 if "
    "they ignore it. Strength: how much of a result agrees on one direction; without strength, a response "
    "means little. EMD: degrees between the orientation histograms of the result and of the style, turned by "
    "the same angle, not turned, and turned by 90 degrees more (a control, which must be largest). LPIPS "
    "range: largest minus smallest distance to the content over the angles.",
    "Interpolation: parameters of a style and of its quarter turn, mixed at five weights. Ends apart: "
    "degrees between the histograms of the two ends. Monotone: share of interpolations in which every step "
    "leads from one end to the other. Half-way at: 0.5 is even. Strength kept half-way: near 1 if strokes "
    "turn, well below 1 if the two directions are overlaid. Patch-SWD, no direction: to styles such as "
    "circles; compare with the unchanged content.",
    "Standard errors in brackets count contents and styles as samples, but not training seeds: small "
    "differences between models of one training each mean nothing. A model that was trained with the loss "
    "network of this table has an advantage in its losses. Images from a model's training must not be in the "
    "list.",
)


@dataclass(frozen=True)
class StyleComparison:
    """A comparison of style-transfer models.

    Args:
        rows: scores of models and pictures; the last row is the unchanged content.
        responses: of the models to turned and mixed styles; the last ones are the unchanged content and the
            style itself.
        differences: of each row from the first, pair by pair.
        turned: the turned styles.
        pairs: the images.
        facts: the conditions of the figures.
        exhibits: the report's pictures.
    """

    rows: Sequence[StyleRow]
    responses: Sequence[ResponseRow]
    differences: Differences
    turned: Sequence[TurnedStyle]
    pairs: StylePairs
    facts: Mapping[str, Any]
    exhibits: Exhibits

    @property
    def table(self) -> Table:
        """Losses, similarity and cost, one row per model."""
        return style_table.loss_table(self.rows)

    @property
    def response_table(self) -> Table:
        """Responses of each model's strokes to turned and mixed styles."""
        return style_responses.response_table(self.responses)

    @property
    def figures(self) -> Table:
        """Both tables side by side, with unrounded figures."""
        responses = {row.model: style_responses.response_values(row) for row in self.responses}
        return Table.from_records(
            [style_table.row_values(row) | responses.get(row.model, {}) for row in self.rows]
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        turned = [
            {
                "name": style.name,
                "strength": round(style.strength, 4),
                "coherence": round(style.coherence, 4),
                "has_direction": style.has_direction,
            }
            for style in self.turned
        ]
        shown = {"losses": self.table, "responses": self.response_table}
        return {
            "form": style_table.FORM,
            "tables": {name: table.to_json() for name, table in shown.items()},
            "rows": style_table.rows_to_json(self.rows),
            "responses": style_responses.responses_to_json(self.responses),
            "differences (mean, standard error)": self.differences,
            "turned_styles": turned,
            "pairs": pairs_to_json(self.pairs),
            **self.facts,
        }

    def to_markdown(self) -> str:
        """Both tables with their conditions, the main one last."""
        facts, pairs = self.facts, self.pairs
        directed = sum(style.has_direction for style in self.turned)
        cost = f"{facts['timing']['threads']} thread(s), {facts['hardware']['processor']}"
        if facts["hardware"]["device"] != "cpu":
            cost = facts["hardware"]["device"]
        lines = [
            f"Style turned and mixed: {directed} styles with a direction, {len(self.turned) - directed} "
            f"without, {len(pairs.rotation_contents)} contents; distances of directions in degrees.",
            self.response_table.to_markdown(),
            *_difference_lines(self.differences),
            f"{len(pairs.contents)} contents x {len(pairs.styles)} styles at {facts['size']} px, losses in "
            f"{facts['loss_network']['name']}, standard errors in brackets; {cost}.",
            self.table.to_markdown(),
        ]
        lines[-1:-1] = _notes(facts)
        if "lpips" not in self.rows[0].means:
            lines.insert(-1, "LPIPS was not measured: its weights are given with --lpips-weights.")
        return "\n\n".join(lines)

    def write(self, out: str | Path) -> None:
        """Write comparison.json, pairs.json, table.md, table.csv, report.html and pictures into a folder.

        The pictures comparison.jpg and rotation.jpg show only freely publishable images.
        """
        out = Path(out)
        # The figures first, which took the time.
        atomic_write_text(out / "comparison.json", json.dumps(self.to_json()) + "\n")
        atomic_write_text(out / "pairs.json", json.dumps(pairs_to_json(self.pairs), indent=1) + "\n")
        atomic_write_text(out / "table.md", self.to_markdown() + "\n")
        atomic_write_text(out / "table.csv", self.figures.to_csv())
        report = style_comparison_report(self)
        report.heading("Pictures")
        for picture, caption in self.exhibits.figures():
            report.figure(picture, caption)
        report.write(out / "report.html")
        self.exhibits.write_free(out)


def style_comparison_report(comparison: StyleComparison) -> Report:
    """The report without its pictures: tables, their meaning, their conditions."""
    facts = comparison.facts
    report = Report("Style transfer compared")
    report.heading("Losses, similarity and cost")
    report.table(comparison.table, "Means over all pairs, standard errors in brackets.")
    for text in (*_notes(facts), EXPLANATIONS[0]):
        report.paragraph(text)
    report.heading("Do strokes turn with the style?")
    report.table(
        comparison.response_table,
        "Means over styles and contents; distances of directions in degrees.",
    )
    for text in EXPLANATIONS[1:3]:
        report.paragraph(text)
    _by_style(report, comparison)
    report.heading("Differences pair by pair", level=3)
    for line in _difference_lines(comparison.differences):
        report.paragraph(line)
    report.paragraph(EXPLANATIONS[3])
    report.heading("What was measured")
    models = [(name, entry["file"], entry["sha256"]) for name, entry in facts["models"].items()]
    report.table(Table(["model", "file", "SHA-256"], models))
    pairs = comparison.pairs
    report.paragraph(
        f"Contents ({len(pairs.contents)}, short side {facts['size']} px): {', '.join(pairs.contents)}"
    )
    report.paragraph(f"Styles ({len(pairs.styles)}): {', '.join(pairs.styles)}")
    report.paragraph(f"Contents of the turned styles: {', '.join(pairs.rotation_contents)}")
    measured = ("loss_network", "lpips", "rotation", "pictures", "optima", "timing", "hardware", "versions")
    rest = {key: facts[key] for key in measured if facts[key]}
    report.code("\n".join(f"{key}: {value}" for key, value in rest.items()))
    if facts["command"]:
        report.code(facts["command"])
    return report


def _notes(facts: Mapping[str, Any]) -> list[str]:
    """Notes on pictures that did not have the content's size, and on the gaps."""
    lines = []
    for name, sizes in facts["pictures"].items():
        changes = [
            f"{sizes[what]} were {change}"
            for what, change in (("cropped", "cropped to it"), ("resized", "resized to it (bicubic)"))
            if sizes[what]
        ]
        if changes:
            lines.append(f"{name}: not all pictures have the content's size, {' and '.join(changes)}.")
    if facts["optima"]:
        optima = facts["optima"]
        lines.append(
            f"Gap: content loss + 3 * style loss, divided by that of pixels optimised with "
            f"{optima['settings']['algorithm']}, mean of {optima['pairs']} pairs."
        )
    return lines


def _by_style(report: Report, comparison: StyleComparison) -> None:
    """The rotation response of every style, one column per model."""
    directed = [style for style in comparison.turned if style.has_direction]
    measured = [row for row in comparison.responses if row.rotation]
    if not directed or not measured:
        return
    lines: list[list[str | float]] = []
    for i, style in enumerate(directed):
        of_style = [[s.response for s in row.rotation if s.style == i] for row in measured]
        means = [f"{sum(values) / len(values):.2f}" for values in of_style]
        lines.append([style.name, style.strength, style.coherence, *means])
    columns = ["style", "strength", "coherence", *(row.model for row in measured)]
    report.table(
        Table(columns, lines), "Rotation response by style; strength and coherence are the style's own."
    )


def _difference_lines(differences: Differences) -> list[str]:
    titles = style_table.MEASURES | style_responses.RESPONSES
    lines = []
    for name, by_measure in differences.items():
        text = ", ".join(f"{titles[m]} {mean:+.4f} ({error:.4f})" for m, (mean, error) in by_measure.items())
        lines.append(f"{name}, pair by pair: {text}")
    return lines
