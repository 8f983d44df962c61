"""ganmod: style modulation (AdaIN, weight demodulation, AdaConv) as interchangeable parts of image models.

Names are loaded on first use, so that the command line starts without importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ganmod.features.vgg import load_features
    from ganmod.modulation import (
        ModulatedConv2d,
        Modulation,
        StyleSpec,
        create_modulation,
        list_modulations,
        register_modulation,
    )
    from ganmod.stylegan2 import Generator

__version__ = "0.1.0"

__all__ = [
    "ModulatedConv2d",
    "Modulation",
    "StyleSpec",
    "create_modulation",
    "list_modulations",
    "load",
    "load_features",
    "register_modulation",
]


def load(path: str | Path) -> Generator:
    """The generator of a model file, averaged over training, in eval mode on the CPU.

    `G = ganmod.load(path); images = G(z, c, truncation_psi=0.7)`: [N,3,H,W] in about [-1,1]. Raises
    ModelFileError for a file that holds no StyleGAN2: StarGAN v2 is loaded by
    `ganmod.starganv2.load_starganv2`, style-transfer models by `style_transfer.load`.
    """
    from ganmod.stylegan2.stylegan2_file import load_stylegan2

    return load_stylegan2(path)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ganmod' has no attribute {name!r}")
    home = "ganmod.features.vgg" if name == "load_features" else "ganmod.modulation"
    return getattr(importlib.import_module(home), name)
