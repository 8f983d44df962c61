"""If this fails, `ganmod compare` mixes up the two spreads, crowns noise, or compares unequal runs."""

from __future__ import annotations

import math

import pytest
from measured_runs import SETTINGS, facts, measured_run

from metrics.compare.runs import (
    better,
    differences,
    group_runs,
    odd_runs,
    row_names,
    seed_spread,
    table_record,
    table_rows,
    unknowns,
    winner,
)


def test_runs_share_a_row_when_only_their_seed_differs():
    runs = [
        facts("a0"),
        facts("c", "adaconv"),
        facts("a1", seed=1),
        facts("wide", settings={**SETTINGS, "generator.channel_max": 88}, seed=2),
        facts("own", title="mine", seed=3),
        facts("n", "adaconv", options={"modulation_options": {"normalize": "none"}}),
    ]
    groups = group_runs(runs)
    assert [[run.name for run in group] for group in groups] == [
        ["a0", "a1"],
        ["c"],
        ["wide"],
        ["own"],
        ["n"],
    ]
    names = row_names(groups)
    assert names[0] == "adain (channel_max 64)"
    assert names[2:4] == ["adain (channel_max 88)", "mine"]
    assert len(set(names)) == 5


def test_one_training_given_twice_is_no_two_seeds():
    with pytest.raises(ValueError, match="a, b are equal down to training seed 0"):
        group_runs([facts("a"), facts("b")])
    unknown = [facts("a", seed=None), facts("b", seed=None)]
    assert len(group_runs(unknown)) == 2
    assert row_names(group_runs(unknown)) == ["adain, a", "adain, b"]
    assert len(group_runs([facts("a", seed=None, title="t"), facts("b", seed=None, title="t")])) == 1
    with pytest.raises(ValueError, match="'t' names runs that differ"):
        row_names(group_runs([facts("a", title="t"), facts("b", "adaconv", title="t")]))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"seed": 5, "options": {"style_lift": "shared"}}, []),
        ({"settings": {**SETTINGS, "data.mirror": True}}, ["data.mirror"]),
        ({"settings": {**SETTINGS, "schedule.batch_size": 16}}, ["schedule.batch_size"]),
        ({"kimg": 101.9}, []),
        ({"kimg": 102.1}, ["kimg of training"]),
        ({"kimg": 97.9}, ["kimg of training"]),
        ({"seconds": 5000.0}, []),
        ({"kimg": None}, []),
    ],
)
def test_what_must_be_equal_is_found(changes, found):
    assert list(differences([facts("a"), facts("b", "adaconv", **changes)])) == found


def test_equal_time_lets_kimg_differ_and_holds_seconds():
    runs = [facts("a"), facts("b", "adaconv", kimg=50.0), facts("c", "weight_demod", seconds=1030.0)]
    assert differences(runs, equal="time") == {"seconds of training": {"a": 1000.0, "b": 1000.0, "c": 1030.0}}
    assert list(differences(runs)) == ["kimg of training"]


def test_what_some_runs_do_not_state_is_said():
    bare = facts("bare", settings={"generator.channel_max": 64}, seed=None, kimg=None)
    assert differences([facts("a"), bare]) == {}
    assert unknowns([facts("a"), bare]) == {
        "settings of data": ["bare"],
        "settings of schedule": ["bare"],
        "kimg of training": ["bare"],
        "training seed": ["bare"],
    }


def test_marked_are_those_that_leave_the_usual_value():
    differing = {
        "batch": {"a": 32, "b": 16, "c": 32},
        "tie": {"a": 1, "b": 2},
        "kimg of training": {"a": 50.0, "b": 100.0, "c": 101.0},
    }
    assert odd_runs(differing) == {"b": ["batch", "tie"], "a": ["kimg of training"]}


def test_the_two_spreads():
    runs = [
        measured_run(facts("a"), 1.0, 2.0, 3.0),  # mean 2, variance 1
        measured_run(facts("b", seed=1), 3.0, 5.0, 7.0),  # mean 5, variance 4
    ]
    found = seed_spread(runs, "fd_x")
    assert found.mean == pytest.approx(3.5)
    assert found.sd_over_draws == pytest.approx(math.sqrt(2.5))
    assert found.sd_over_training_seeds == pytest.approx(3 / math.sqrt(2))
    assert seed_spread(runs[:1], "fd_x").sd_over_training_seeds is None
    assert seed_spread([measured_run(facts("a"), 4.0)], "fd_x") == (4.0, None, None)
    with pytest.raises(ValueError, match=r"a: fd_x is .*nan"):
        seed_spread([measured_run(facts("a"), math.nan)], "fd_x")


@pytest.mark.parametrize(
    ("first", "second", "metric", "expected"),
    [
        ([10.0, 11.0, 12.0], [20.0, 21.0, 22.0], "fid", "first"),  # sd of a difference: sqrt 2
        ([10.0, 11.0, 12.0], [12.9, 13.9, 14.9], "fid", "first"),  # 2.9 > 2 sqrt 2
        ([10.0, 11.0, 12.0], [12.8, 13.8, 14.8], "fid", None),  # 2.8 < 2 sqrt 2
        ([10.0, 11.0, 12.0], [20.0, 21.0, 22.0], "recall_x", "second"),
        ([10.0, 11.0, 12.0], [20.0, 21.0, 22.0], "density_x", None),
        ([10.0, 11.0, 12.0], [20.0, 21.0], "fid", None),  # two training seeds
    ],
)
def test_a_winner_needs_three_seeds_and_two_deviations(first, second, metric, expected):
    assert winner({"first": first, "second": second}, metric) == expected
    assert winner({"first": first}, metric) is None


def test_which_way_is_better():
    names = ["fid", "fd_x", "kd_x", "kd_std_x", "precision", "coverage_x", "density", "ppl_squeeze"]
    assert [better(name) for name in names] == [
        "lower",
        "lower",
        "lower",
        None,
        "higher",
        "higher",
        None,
        "lower",
    ]


def test_the_record_states_seeds_costs_and_leaves_odd_rows_out_of_the_contest():
    runs = [measured_run(facts(f"a{i}", seed=i), 10.0 + i / 10) for i in range(3)]
    runs += [measured_run(facts(f"c{i}", "adaconv", seed=i), 20.0 + i / 10) for i in range(3)]
    wide = {**SETTINGS, "generator.channel_max": 88}
    odd = facts("wide", "weight_demod", settings=wide, kimg=None, nonfinite_steps=2.0, peak_memory_mb=5.0)
    runs.append(measured_run(odd, 1.0, power_to_real={"high": 0.5}, num_repeated=4))
    differing = differences([run.facts for run in runs])
    rows, winners = table_record(runs, differing)
    assert [row["row"] for row in rows] == ["adain", "adaconv", "weight_demod"]
    assert [row["training_seeds"] for row in rows] == [[0, 1, 2], [0, 1, 2], [0]]
    assert [row["differs"] for row in rows] == [[], [], ["generator.channel_max"]]
    assert winners == {"fd_x": "adain"}
    assert rows[0]["seconds_per_kimg"] == pytest.approx(10.0)
    assert rows[0]["metrics"]["fd_x"]["draws"] == [[10.0], [10.1], [10.2]]
    last = rows[2]
    assert (last["kimg"], last["seconds_per_kimg"]) == (None, None)
    assert (last["nonfinite_steps"], last["peak_memory_mb"], last["num_repeated"]) == (2.0, 5.0, 4)
    assert last["power_to_real"] == {"high": 0.5}


def test_runs_need_names_of_their_own():
    with pytest.raises(ValueError, match="share names"):
        table_rows([measured_run(facts("a"), 1.0), measured_run(facts("a", "adaconv"), 1.0)])
