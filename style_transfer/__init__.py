"""Style transfer: encoder, decoder, model files and stylisation."""

from style_transfer.model import ModelSpec, StyleTransferModel, build, load
from style_transfer.prepare import prepare_style

__all__ = ["ModelSpec", "StyleTransferModel", "build", "load", "prepare_style"]
