"""The record of a run: configuration, statistics and model, from its folder or from a model file alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from configs.schema import (
    ConfigError,
    flat,
    load_starganv2_config,
    load_style_config,
    load_stylegan2_config,
    read_sections,
)
from configs.stylegan2 import ModulationOptions
from ganmod.io.model_file import ModelFile, ModelFileError, read_model_file
from ganmod.starganv2.spec import StarGANv2Spec
from ganmod.stylegan2 import DiscriminatorSpec, GeneratorSpec
from metrics.compare.runs import RunFacts, RunRecord
from metrics.features.base import current_metric_name
from style_transfer import ModelSpec
from training.run.folder import CHANGES_FILE, CONFIG_FILE, MODEL_FILE

RECIPE_OF_KIND = {"stylegan2": "stylegan2", "starganv2": "starganv2", "style-transfer": "style"}
LOADERS: dict[str, Callable[[str, Mapping[str, Any]], Any]] = {
    "stylegan2": load_stylegan2_config,
    "starganv2": load_starganv2_config,
    "style": load_style_config,
}

# What a modulation is, and how it gets its style: that is compared. All else must be equal, but for the FREE
# ones, which leave the result alone or are known better: networks by the model file, kimg by its count.
OPTIONS = tuple(option.name for option in fields(ModulationOptions) if option.name != "modulation")
FREE_SECTIONS = ("recipe", "model", "metric", "plugins")
FREE_KEYS = (
    "data.cache_mb",
    "data.num_workers",
    "schedule.microbatch",
    "schedule.total_kimg",
    "schedule.minutes",
    "schedule.log_kimg",
    "schedule.snapshot_kimg",
    "schedule.checkpoint_kimg",
    "schedule.checkpoint_minutes",
    "schedule.max_nonfinite_steps",
    "runtime.device",
    "runtime.channels_last",
    "runtime.compile",
    "runtime.seed",
    "runtime.tensorboard",
)
PATH_KEYS = ("data.path", "data.content", "data.style", "data.exclude", "loss.network_weights", "transfer")


def read_run(path: str | Path, *, title: str | None = None, name: str | None = None) -> RunRecord:
    """The record of a run folder, whose latest model counts, or of a model file.

    A model file in its run folder brings the folder's configuration along. title: of the row, human-readable;
    name: of the run, by default the folder's or the file's. Raises ValueError for a folder without
    configuration or model, ModelFileError and ConfigError as their readers do.
    """
    path = Path(path)
    model = path / MODEL_FILE if path.is_dir() else path
    folder = model.parent
    has_config = (folder / CONFIG_FILE).is_file() and model.match("model-*.safetensors")
    if path.is_dir() and not (has_config and model.is_file()):
        missing = CONFIG_FILE if not has_config else MODEL_FILE
        raise ValueError(f"{path} holds no {missing}: give a run folder of `ganmod train`, or a model file")
    file = read_model_file(model)
    if file.kind not in RECIPE_OF_KIND:
        raise ModelFileError(
            f"{model}: is a model file of kind {file.kind!r}, expected one of {', '.join(RECIPE_OF_KIND)}"
        )
    recipe = RECIPE_OF_KIND[file.kind]
    config = _read_config(folder / CONFIG_FILE, recipe) if has_config else None
    nimg = file.training_value("nimg")
    stats = read_lines(folder / "stats.jsonl", nimg) if has_config else []
    logged = read_lines(folder / "metrics.jsonl", nimg) if has_config else []
    changes = read_lines(folder / CHANGES_FILE, nimg) if has_config else []
    metrics = [{current_metric_name(key): value for key, value in line.items()} for line in logged]
    last: dict[str, Any] = stats[-1] if stats else {}
    nimg, seconds = nimg or last.get("nimg"), file.training_value("seconds") or last.get("seconds")
    networks = _networks(file, model)
    generator = next(values for key, values in networks.items() if key != "discriminator")
    memory = [line["peak_memory_mb"] for line in stats if line.get("peak_memory_mb") is not None]
    facts = RunFacts(
        name=name or (folder.name if path.is_dir() else path.stem),
        title=title,
        recipe=recipe,
        modulation="adain-classic" if generator.get("architecture") == "classic" else generator["modulation"],
        options={key: generator[key] for key in OPTIONS if key in generator and recipe != "style"}
        | ({"modulation_options": generator["modulation_options"]} if recipe == "style" else {}),
        settings=_settings(networks, config, recipe, changes),
        seed=None if config is None else config["runtime"]["seed"],
        kimg=None if nimg is None else nimg / 1000,
        seconds=seconds,
        peak_memory_mb=max(memory) if memory else None,
        nonfinite_steps=last.get("nonfinite_steps"),
    )
    return RunRecord(facts, model, stats, metrics, config)


def read_lines(file: Path, nimg: float | None = None) -> list[dict[str, Any]]:
    """The lines of a .jsonl file, up to nimg images; none without a file. A cut last line is left out."""
    if not file.is_file():
        return []
    records = []
    for number, text in enumerate(lines := file.read_text().splitlines()):
        try:
            record = json.loads(text)
            if not isinstance(record, dict):
                raise ValueError(f"a {type(record).__name__}, expected names and values")
            records.append(record)
        except (ValueError, RecursionError) as error:
            if number < len(lines) - 1:
                raise ValueError(f"{file}, line {number + 1} is no JSON record ({error})") from error
    return [line for line in records if nimg is None or line.get("nimg", 0) <= nimg]


def _read_config(file: Path, recipe: str) -> dict[str, Any]:
    """The whole configuration: keys that an older version did not write have their defaults."""
    stated = read_sections(file).get("recipe", recipe)
    if stated != recipe:
        raise ConfigError(f"{file} is of recipe {stated!r}, but the model beside it of {recipe!r}")
    return LOADERS[recipe](str(file), {}).model_dump(mode="json")


def _networks(file: ModelFile, path: Path) -> dict[str, dict[str, Any]]:
    """{section: every field of a network's specification}, as this version fills them in."""
    try:
        if file.kind == "stylegan2":
            networks = {"generator": GeneratorSpec.from_dict(file.config["generator"]).to_dict()}
            if "discriminator" in file.config:
                spec = DiscriminatorSpec.from_dict(file.config["discriminator"])
                networks["discriminator"] = spec.to_dict()
                if not spec.c_dim:  # has no mapping network, whatever its depth would be
                    del networks["discriminator"]["mapping_layers"]
            return networks
        if file.kind == "starganv2":
            return {"networks": StarGANv2Spec.from_dict(file.config["networks"]).to_dict()}
        return {"model": asdict(ModelSpec.from_dict(file.config["model"]))}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: its configuration describes no {file.kind} model ({error})") from error


def _settings(
    networks: Mapping[str, Mapping[str, Any]],
    config: Mapping[str, Any] | None,
    recipe: str,
    changes: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What two runs must share to be compared by modulation; a setting that was changed, with when it was."""
    compared = ("modulation", *(OPTIONS if recipe != "style" else ("modulation_options", "architecture")))
    settings = {
        f"{section}.{key}": value
        for section, values in networks.items()
        for key, value in values.items()
        if key not in compared
    }
    for key, value in flat(config or {}).items():
        if key.split(".")[0] not in FREE_SECTIONS and key not in FREE_KEYS:
            settings[key] = _file_names(value) if key in PATH_KEYS else value
    for change in changes:
        key = change["key"]
        if key in settings and key not in PATH_KEYS:
            earlier = [one for one in changes if one["key"] == key]
            values = [f"{one['now']} from {one['nimg']} images on" for one in earlier]
            settings[key] = ", ".join([str(earlier[0]["before"]), *values])
    return settings


def _file_names(value: Any) -> Any:
    """Paths by their last part: the same data may lie elsewhere."""
    if isinstance(value, list):
        return [Path(item).name for item in value]
    return Path(value).name if value else value
