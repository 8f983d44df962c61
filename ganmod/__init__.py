"""ganmod: style modulation (AdaIN, weight demodulation, AdaConv) as interchangeable parts of image models.

Names are loaded on first use, so that the command line starts without importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganmod.features import load_features
    from ganmod.modulation import (
        ModulatedConv2d,
        Modulation,
        StyleSpec,
        create_modulation,
        list_modulations,
        register_modulation,
    )

__version__ = "0.1.0"

__all__ = [
    "ModulatedConv2d",
    "Modulation",
    "StyleSpec",
    "create_modulation",
    "list_modulations",
    "load_features",
    "register_modulation",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ganmod' has no attribute {name!r}")
    home = "ganmod.features" if name == "load_features" else "ganmod.modulation"
    return getattr(importlib.import_module(home), name)
