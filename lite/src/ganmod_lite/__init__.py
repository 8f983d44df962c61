"""ganmod-lite: style transfer by AdaConv with onnxruntime alone.

from ganmod_lite import Stylizer, read_image, write_image

stylizer = Stylizer()
result = stylizer.apply(read_image("photo.jpg"), stylizer.predict(read_image("painting.jpg")))
write_image("out.png", result)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganmod_lite.errors import LiteError
    from ganmod_lite.images import read_image, write_image
    from ganmod_lite.stylizer import Stylizer

__version__ = "0.1.0"  # as ganmod's

__all__ = ["LiteError", "Stylizer", "read_image", "write_image"]

_HOMES = {
    "LiteError": "ganmod_lite.errors",
    "Stylizer": "ganmod_lite.stylizer",
    "read_image": "ganmod_lite.images",
    "write_image": "ganmod_lite.images",
}


def __getattr__(name: str) -> Any:
    """Load public names on first use, so that the command answers before numpy is imported."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ganmod_lite' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
