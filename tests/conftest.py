"""Fixtures for all tests, such as the command line, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from command_checks import Ended

from ganmod.cli.main import main


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` if torch sees no CUDA device."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True, scope="session")
def temporary_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep tests, and the processes that they start, off the user's cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANMOD_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def few_drawn_styles() -> Iterator[None]:
    """Reduce the 60 styles that a training without data draws, which take longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.style.build.BUILTIN_STYLES", 8)
        yield


@pytest.fixture
def ganmod_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run `ganmod ARGUMENTS...` through its real entry point, without a new process."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ganmod", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        assert isinstance(code, int | None)
        return Ended(code or 0, *capsys.readouterr())

    return run
