"""If this fails, a command that takes hours says nothing where its output is no terminal."""

from __future__ import annotations

import pytest

from ganmod.cli.options import progress
from ganmod.cli.options.progress import progress_bar


def test_without_a_terminal_there_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with progress_bar(total=10, desc="real images", unit="img") as bar:
        for _ in range(9):
            now[0] += 10  # seconds each
            bar.update()
            bar.set_postfix(loss="0.5")
    assert capsys.readouterr().err.splitlines() == [
        "real images: 3 of 10 img, 00:30, 01:10 to the end, loss=0.5",
        "real images: 6 of 10 img, 01:00, 00:40 to the end, loss=0.5",
        "real images: 9 of 10 img, 01:30, 00:10 to the end, loss=0.5",
    ]


def test_short_work_and_other_processes_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar(total=2, unit="step") as bar:
        bar.update(2)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress_bar(total=2, shown=False) as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""
