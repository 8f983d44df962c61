"""If this fails, the table of rotation and interpolation shows other figures than were measured."""

import json

import pytest

from metrics.style.interpolation import WEIGHTS, InterpolationScore
from metrics.style.responses import (
    make_response_row,
    response_difference,
    response_table,
    response_values,
    responses_to_json,
)
from metrics.style.rotation import RotationScore


def rotation(style, content, response, lpips_range=0.02):
    return RotationScore(style, content, response, 0.5, 0.25, 0.75, 10.0, 40.0, 80.0, 0.5, lpips_range)


def interpolation(style, content, last=(90.0, 60.0, 45.0, 15.0, 0.0)):
    first = (0.0, 30.0, 45.0, 75.0, 90.0)
    return InterpolationScore(style, content, WEIGHTS, first, last, (0.9, 0.8, 0.45, 0.8, 0.9))


def row(model="a", responses=(0.2, 0.4, 0.6, 0.8)):
    scores = [rotation(i // 2, i % 2, value) for i, value in enumerate(responses)]
    ways = [interpolation(0, 0), interpolation(0, 1, last=(90.0, 60.0, 70.0, 15.0, 0.0))]
    return make_response_row(model, scores, ways, [(0, 0, 0.0625)])


def test_means_and_standard_errors_are_those_of_the_scores():
    found = row()
    assert found.means["rotation_response"] == pytest.approx(0.5)
    # Contents: means 0.4, 0.6, variance 0.02; styles: means 0.3, 0.7, variance 0.08.
    assert found.errors["rotation_response"] == pytest.approx((0.02 / 2 + 0.08 / 2) ** 0.5)
    assert (found.means["emd_turned"], found.means["emd_across"]) == (10, 80)
    assert found.means["interpolation_monotone"] == 0.5  # the second steps back by 10 degrees
    assert found.means["interpolation_strength"] == pytest.approx(0.5)
    assert found.means["undirected_patch_swd"] == 0.0625


def test_what_was_not_measured_has_no_column():
    found = make_response_row("a", [rotation(0, 0, 0.5, lpips_range=None)], [], [])
    assert "lpips_range" not in found.means
    assert response_table([found]).columns[-1] == "to t + 90"
    table = response_table([found, row("b")])
    columns, cells = table.columns, table.rows
    assert len(columns) == len(cells[0]) == len(cells[1])
    assert cells[0][columns.index("monotone")] == ""
    assert cells[1][columns.index("monotone")] == "0.50 (0.50)"


def test_differences_are_taken_pair_by_pair():
    better = row("b", (0.3, 0.5, 0.7, 0.9))
    assert response_difference(row(), better, "rotation_response") == pytest.approx((0.1, 0), abs=1e-12)
    with pytest.raises(ValueError, match="a and c were measured on other images"):
        response_difference(row(), row("c", (0.2, 0.4)), "rotation_response")


def test_json_holds_every_measurement():
    (found,) = json.loads(json.dumps(responses_to_json([row()])))
    assert found["rotation"]["response"] == [0.2, 0.4, 0.6, 0.8]
    assert found["rotation"]["style"] == [0, 0, 1, 1]
    assert found["interpolation"]["to_first"][1] == [0, 30, 45, 75, 90]
    assert found["undirected_patch_swd_each"] == [[0, 0, 0.062]]
    assert found["rotation_response"] == response_values(row())["rotation_response"] == pytest.approx(0.5)
