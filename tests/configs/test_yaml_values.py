"""If this fails, a small configuration file fills the memory, never ends, or ends in a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.schema import ConfigError, load_style_config, parse_setting
from configs.visible_text import visible, visible_lines
from configs.yaml_values import read_yaml

TENFOLD = [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
BOMB = "\n".join(["a: &a [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", *TENFOLD])  # a billion values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "values, and the limit is 100,000"),
        ("a: &a [*a]", "has 33 levels, and the limit is 32"),
        ("[" * 20_000, "nested beyond Python's recursion limit"),
        ("{a: " * 20_000, "nested beyond Python's recursion limit"),
        ("[" * 40 + "]" * 40, "has 33 levels, and the limit is 32"),
        ("a: &a {x: 1}\nb: {<<: *a}", "is no YAML"),
        ("a: 2001-99-99", "month must be in 1..12"),
        ("a: !!bool x", "is no YAML"),
        ("a: !!int x", "is no YAML"),
        ("a: !!timestamp x", "is no YAML"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: " + "9" * 5000, "is no YAML"),
        ("# " + "x" * 1_100_000, "has 1,100 KB, and the limit is 1,024"),
    ],
)
def test_what_no_configuration_holds_is_one_message(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^the file ") as caught:
        read_yaml(text, "the file")
    assert message in str(caught.value)
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad\.yaml "):
        load_style_config(str(tmp_path / "bad.yaml"), {})


def test_plain_values_are_read_as_they_are() -> None:
    assert read_yaml("a: [1, 2.5, x, null, true]\nb: {c: &c {d: [3]}, e: *c}", "") == {
        "a": [1, 2.5, "x", None, True],
        "b": {"c": {"d": [3]}, "e": {"d": [3]}},
    }
    assert parse_setting("a.b=[1, {c: 2}]") == ("a.b", [1, {"c": 2}])
    with pytest.raises(ConfigError, match=r"--set a\.b: the value '\[' is no YAML"):
        parse_setting("a.b=[")


@pytest.mark.parametrize(
    "setting",
    [
        "schedule.total_kimg=.inf",
        "schedule.snapshot_kimg=.nan",
        "loss.style_weight=.inf",
        "optimizer.lr=.inf",
    ],
)
def test_numbers_of_a_configuration_are_finite(setting: str) -> None:
    with pytest.raises(ConfigError, match="should be a finite number"):
        load_style_config("style-smoke", dict([parse_setting(setting)]))


def test_loader_processes_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"the limit is 128: .* GANMOD_MAX_WORKERS"):
        load_style_config("style-smoke", {"data.num_workers": 1000})
    monkeypatch.setenv("GANMOD_MAX_WORKERS", "1000")
    assert load_style_config("style-smoke", {"data.num_workers": 1000}).data.num_workers == 1000


def test_hidden_characters_are_written_as_escapes() -> None:
    assert visible("plain Ü 画") == "plain Ü 画"
    assert visible("\x1b]0;x\x07\r\n\x9b\u202e\udcff\u2028\x7f") == (
        r"\x1b]0;x\x07\r\n\x9b\u202e\udcff\u2028\x7f"
    )
    assert visible_lines("a\x1b\nb") == "a\\x1b\nb"
