"""Compare training runs or style-transfer models under equal conditions.

`compare_runs` and `compare_style_models` measure and return a comparison. Its `table` is a
`metrics.table.Table`; its `write` creates a folder with report.html. Names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metrics.compare.comparison import RunComparison, check_runs, compare_runs
    from metrics.compare.protocol import RunProtocol
    from metrics.compare.runs import RunRecord
    from metrics.compare.style.comparison import compare_style_models
    from metrics.compare.style.pairs import StylePairs
    from metrics.compare.style.protocol import StyleProtocol
    from metrics.compare.style.report import StyleComparison

__all__ = [
    "RunComparison",
    "RunProtocol",
    "RunRecord",
    "StyleComparison",
    "StylePairs",
    "StyleProtocol",
    "check_runs",
    "compare_runs",
    "compare_style_models",
]

_MODULES = {
    "RunComparison": "metrics.compare.comparison",
    "RunProtocol": "metrics.compare.protocol",
    "RunRecord": "metrics.compare.runs",
    "StyleComparison": "metrics.compare.style.report",
    "StylePairs": "metrics.compare.style.pairs",
    "StyleProtocol": "metrics.compare.style.protocol",
    "check_runs": "metrics.compare.comparison",
    "compare_runs": "metrics.compare.comparison",
    "compare_style_models": "metrics.compare.style.comparison",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'metrics.compare' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
