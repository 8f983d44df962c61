"""Reading of run configurations: presets, files and changes from the command line, checked key by key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from configs.limits import CONFIG_KB, KB
from configs.problems import describe_problems
from configs.sections import Strict
from configs.starganv2 import StarGANv2Run
from configs.style import StyleRun
from configs.stylegan2 import StyleGAN2Loss, StyleGAN2Run
from configs.yaml_values import read_yaml

PRESETS = Path(__file__).parent

AnyRun = StyleRun | StyleGAN2Run | StarGANv2Run
RecipeRun = TypeVar("RecipeRun", bound=Strict)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and the fix."""

    exit_code = 2


def list_presets() -> list[str]:
    """Names that --config accepts."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_style_config(source: str, changes: Mapping[str, Any]) -> StyleRun:
    """A style-transfer run from a preset's name or a YAML file, with `changes` {dotted.key: value} applied.

    Raises ConfigError for an unknown preset, a key that does not exist, or a value that does not fit.
    """
    return load_recipe(StyleRun, source, changes)


def load_stylegan2_config(source: str, changes: Mapping[str, Any]) -> StyleGAN2Run:
    """A StyleGAN2 run, as `load_style_config`.

    A preset's section `loss` is of its objective: where the changes give another objective, or another
    discriminator and so its objective, only what they say of the loss counts. Its `schedule.ema_rampup` is of
    a run from random weights: with a `transfer` only what the changes say of it counts.
    """
    is_preset = source in list_presets()
    if is_preset and changes.get("transfer") is not None:
        changes = {"schedule.ema_rampup": None} | dict(changes)
    run = load_recipe(StyleGAN2Run, source, changes)
    if not is_preset or load_recipe(StyleGAN2Run, source, {}).objective == run.objective:
        return run
    mentioned = {key.removeprefix("loss.") for key in changes if key.startswith("loss.")}
    loss = run.loss if "loss" in changes else StyleGAN2Loss(**run.loss.model_dump(include=mentioned))
    return run.model_copy(update={"loss": loss})


def load_starganv2_config(source: str, changes: Mapping[str, Any]) -> StarGANv2Run:
    """A StarGAN v2 run, as `load_style_config`."""
    return load_recipe(StarGANv2Run, source, changes)


def load_recipe(kind: type[RecipeRun], source: str, changes: Mapping[str, Any]) -> RecipeRun:
    """A run of one recipe from a preset's name or a YAML file; errors as `load_style_config` says."""
    path = Path(source)
    if source in list_presets():
        path = PRESETS / f"{source}.yaml"
    elif not path.is_file():
        raise ConfigError(f"no preset or file named {source!r}. Presets: {', '.join(list_presets())}")
    content = read_sections(path)
    for key, value in changes.items():
        _set(content, key, value)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = [f"  {problem}" for problem in describe_problems(kind, error)]
        raise ConfigError(f"configuration {source!r} does not fit:\n" + "\n".join(lines)) from error


def read_sections(path: Path) -> dict[str, Any]:
    """The sections of a YAML file, not checked further; ConfigError for any other file."""
    try:
        CONFIG_KB.check(path.stat().st_size / KB, str(path))
        content = read_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}, expected sections such as `model:`")
    return content


def parse_setting(text: str) -> tuple[str, Any]:
    """One `--set a.b=value`: the key, and the value read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text!r}: expected key=value, such as optimizer.lr=0.001")
    try:
        return key.strip(), read_yaml(value, f"the value {value[:80]!r}")
    except ValueError as error:
        raise ConfigError(f"--set {key}: {error}") from error


def to_yaml(config: Strict) -> str:
    """The configuration as YAML; reading it again gives the same configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"data.path": ...}; an empty section is a value."""
    settings: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            settings |= flat(value, f"{prefix}{key}.")
        else:
            settings[prefix + key] = value
    return settings


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"{key}: {parent} is a value, not a section")
    content[last] = value
