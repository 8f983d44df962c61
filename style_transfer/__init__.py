"""Style transfer: encoder, decoder, model files and stylisation."""

from style_transfer.controls import ControlledStyle, Controls
from style_transfer.masks import make_masks
from style_transfer.model import StyleTransferModel, build, load
from style_transfer.prepare import prepare_style
from style_transfer.spec import ModelSpec

__all__ = [
    "ControlledStyle",
    "Controls",
    "ModelSpec",
    "StyleTransferModel",
    "build",
    "load",
    "make_masks",
    "prepare_style",
]
