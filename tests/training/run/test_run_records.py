"""If this fails, a comparison reads another run than was trained: its seed, length, settings or curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from run_folders import run_folder
from tiny_generator import discriminator, tiny_generator

from configs.schema import ConfigError, flat
from ganmod.io.model_file import ModelFileError, save_model_file
from ganmod.stylegan2.stylegan2_file import save_stylegan2
from metrics.compare.comparison import without_folders
from metrics.compare.runs import differences
from training.run.records import read_lines, read_run


def test_a_run_folder_states_what_its_model_is(tmp_path: Path):
    folder = run_folder(tmp_path / "mine", **{"runtime.seed": 3, "model.modulation": "adaconv"})
    record = read_run(folder, title="row")
    facts = record.facts
    assert (facts.name, facts.title, facts.recipe, facts.modulation) == (
        "mine",
        "row",
        "stylegan2",
        "adaconv",
    )
    assert (facts.seed, facts.kimg, facts.seconds) == (3, 2.0, 20.0)
    assert (facts.peak_memory_mb, facts.nonfinite_steps) == (14000.0, 2.0)  # not the line after the model
    assert [line["nimg"] for line in record.stats] == [1000, 2000]
    assert [line["fd_x"] for line in record.metrics] == [3.0]
    assert facts.settings["data.path"] == "set.zip"
    assert facts.settings["generator.img_resolution"] == [16, 24]
    assert "generator.modulation" not in facts.settings
    assert facts.options["style_lift"] == "none"
    free = [key for key in facts.settings if "seed" in key or key.startswith(("model.", "metric."))]
    assert free == []


def test_what_leaves_the_result_alone_is_no_difference_and_what_does_not_is(tmp_path: Path):
    base = run_folder(tmp_path / "a")
    alike = run_folder(
        tmp_path / "b",
        **{"data.path": "/elsewhere/set.zip", "schedule.minutes": 5, "runtime.device": "cpu"},
    )
    other = run_folder(tmp_path / "c", **{"data.mirror": True, "loss.pl_weight": 0.5})
    text = yaml.safe_load((base / "config.yaml").read_text())
    del text["loss"]["pl_weight"]  # as an older version wrote it: the default
    (base / "config.yaml").write_text(yaml.safe_dump(text))
    records = {name: read_run(path).facts for name, path in (("a", base), ("b", alike), ("c", other))}
    assert differences([records["a"], records["b"]]) == {}
    assert set(differences([records["b"], records["c"]])) == {"data.mirror", "loss.pl_weight"}


def test_a_setting_that_was_changed_on_resume_is_a_difference_that_says_when(tmp_path: Path):
    plain, changed = (
        run_folder(tmp_path / name, **{"optimizer.g_lr": 0.001}) for name in ("plain", "changed")
    )
    lines = [
        {"nimg": 1000, "key": "optimizer.g_lr", "before": 0.0025, "now": 0.002},
        {"nimg": 1000, "key": "data.path", "before": "set.zip", "now": "/data/set.zip"},
        {"nimg": 1000, "key": "schedule.total_kimg", "before": 1, "now": 2},
        {"nimg": 2000, "key": "optimizer.g_lr", "before": 0.002, "now": 0.001},
        {"nimg": 3000, "key": "optimizer.d_lr", "before": 0.0, "now": 1.0},
    ]
    (changed / "changes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = (read_run(folder).facts.settings for folder in (plain, changed))
    assert {key: value for key, value in second.items() if first[key] != value} == {
        "optimizer.g_lr": "0.0025, 0.002 from 1000 images on, 0.001 from 2000 images on"
    }  # not what came after the model


def test_the_depth_of_a_mapping_network_that_is_not_there_is_no_difference(tmp_path: Path):
    for c_dim, expected in ((0, []), (3, ["discriminator.mapping_layers"])):
        facts = []
        for depth in (2, 8):
            file = tmp_path / f"model-{c_dim}-{depth}.safetensors"
            D = discriminator(c_dim=c_dim, mapping_layers=depth)
            save_stylegan2(file, G_ema=tiny_generator(c_dim=c_dim), D=D)
            facts.append(read_run(file).facts)
        assert list(differences(facts, equal="kimg")) == expected


def test_a_model_file_is_read_with_its_folder_or_alone(tmp_path: Path):
    folder = run_folder(tmp_path / "run", nimg=3000)
    save_stylegan2(folder / "model-best.safetensors", G_ema=tiny_generator(), training={"nimg": 1000})
    best = read_run(folder / "model-best.safetensors")
    assert (best.facts.name, best.facts.kimg, best.facts.seed) == ("model-best", 1.0, 0)
    assert [line["nimg"] for line in best.stats] == [1000]
    alone = tmp_path / "alone.safetensors"
    save_stylegan2(alone, G_ema=tiny_generator())
    facts = read_run(alone).facts
    assert (facts.kimg, facts.seconds, facts.seed, facts.modulation) == (None, None, None, "weight_demod")
    assert {key.split(".")[0] for key in facts.settings} == {"generator"}


def test_what_is_no_run_is_named(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no config\.yaml"):
        read_run(tmp_path / "empty")
    folder = run_folder(tmp_path / "run")
    (folder / "model-latest.safetensors").unlink()
    with pytest.raises(ValueError, match=r"run holds no model-latest\.safetensors"):
        read_run(folder)
    save_model_file(tmp_path / "net.safetensors", {}, kind="feature-network", config={})
    with pytest.raises(ModelFileError, match="kind 'feature-network'"):
        read_run(tmp_path / "net.safetensors")
    other = run_folder(tmp_path / "other")
    (other / "config.yaml").write_text("recipe: style\n")
    with pytest.raises(ConfigError, match="of recipe 'style'"):
        read_run(other)


def test_measures_of_an_older_version_have_their_present_names(tmp_path: Path):
    folder = run_folder(tmp_path / "old")
    lines = [{"nimg": 1000, "kid_squeezenet1_1": 0.5, "kid": 0.25, "fd_squeezenet1_1": 3.0}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_run(folder).metrics == [
        {"nimg": 1000, "kd_squeezenet1_1": 0.5, "kid": 0.25, "fd_squeezenet1_1": 3.0}
    ]


def test_lines_that_were_cut_by_a_kill_are_left_out(tmp_path: Path):
    file = tmp_path / "stats.jsonl"
    file.write_text('{"nimg": 1}\n{"nimg": 2}\n{"ni')
    assert read_lines(file) == [{"nimg": 1}, {"nimg": 2}]
    assert read_lines(file, 1) == [{"nimg": 1}]
    assert read_lines(tmp_path / "none.jsonl") == []
    for damaged in ("nonsense", "[1]", "[" * 100_000):
        file.write_text(f'{{"nimg": 1}}\n{damaged}\n{{"nimg": 2}}\n')
        with pytest.raises(ValueError, match="line 2 is no JSON"):
            read_lines(file)


def test_settings_are_flattened_and_folders_left_out():
    nested = {"data": {"path": "/here/set.zip", "kinds": ["/a/b", "c"], "none": {}}, "seed": 1}
    assert flat(nested) == {
        "data.path": "/here/set.zip",
        "data.kinds": ["/a/b", "c"],
        "data.none": {},
        "seed": 1,
    }
    plain = {"data": {"path": "set.zip", "kinds": ["b", "c"], "none": {}}, "seed": 1}
    assert without_folders(nested) == plain
