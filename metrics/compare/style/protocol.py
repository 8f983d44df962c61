"""How style-transfer models are compared, and the conditions of the figures."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ganmod.machine import cpu_name
from metrics.compare.style.pairs import StylePairs
from metrics.progress import Progress, no_progress
from metrics.style.rotation import ANGLES, MIN_COHERENCE, MIN_STRENGTH, WINDOW
from style_transfer import StyleTransferModel

LIBRARIES = ("ganmod", "torch", "torchvision", "numpy", "scipy", "scikit-image", "pillow")
REPEATS = 5  # of the timing
OPTIMISED = "optimised"  # the name of the row
MIN_SIZE = 32  # pixels; strokes of smaller images have no measurable direction

CPU = torch.device("cpu")
Models = Mapping[str, StyleTransferModel | str | Path]


@dataclass(frozen=True)
class StyleProtocol:
    """How to measure style-transfer models, the same for all rows.

    Args:
        content: folder of photos to stylize.
        styles: folders of style images.
        size: short side of the photos and side of the styles in pixels, 32 or more.
        loss_network: name of the network of all losses, see `ganmod.features.vgg.load_features`.
        feature_weights: its weights, if it needs a file.
        lpips_weights: file of LPIPS' network (SqueezeNet 1.1); without it LPIPS is left out.
        pairs: the images to use; None chooses at most 20 contents and 20 styles.
        pictures: {name of a row: folder of another program's results, CONTENT--STYLE.png}.
        optimised: folder for a row of optimised pixels; missing pictures take minutes each.
        optima: JSON file for the losses of optimised pixels, which the amortisation gap needs; missing ones
            take minutes each.
        device: where the models run.
        progress: shows each step.
    """

    content: str | Path
    styles: Sequence[str | Path]
    size: int = 256
    loss_network: str = "ganmod-slim"
    feature_weights: str | Path | None = None
    lpips_weights: str | Path | None = None
    pairs: StylePairs | None = None
    pictures: Mapping[str, str | Path] = field(default_factory=dict)
    optimised: str | Path | None = None
    optima: str | Path | None = None
    device: torch.device = CPU
    progress: Progress = no_progress

    def check(self, models: Models) -> None:
        """Raise ValueError for faults that can be detected without reading images."""
        if not (models or self.pictures or self.optimised or self.optima):
            raise ValueError("no model is given: name at least one style-transfer model file")
        names = [*models, *self.pictures, *([OPTIMISED] if self.optimised else [])]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rows are named {doubled[0]!r}: give each its own name")
        if isinstance(self.styles, str | Path):
            raise ValueError(f"styles is one path, expected a list of folders: [{str(self.styles)!r}]")
        if self.size < MIN_SIZE:
            raise ValueError(
                f"size {self.size}: expected {MIN_SIZE} pixels or more; strokes of smaller images have no "
                "direction that can be measured"
            )

    def facts(self, models: Models) -> dict[str, Any]:
        """Plain values: hashes of the files, settings, machine and versions."""
        threads, device = torch.get_num_threads(), self.device
        return {
            "size": self.size,
            "models": {name: _file_facts(model) for name, model in models.items()},
            "loss_network": {"name": self.loss_network, "sha256": _sha256(self.feature_weights)},
            "lpips": {"network": "SqueezeNet 1.1", "sha256": _sha256(self.lpips_weights)},
            "rotation": {
                "angles": ANGLES,
                "window": WINDOW,
                "min_strength": MIN_STRENGTH,
                "min_coherence": MIN_COHERENCE,
            },
            "timing": {
                "threads": threads,
                "repeats": REPEATS,
                "statistic": "median",
                "clock": "processor" if device.type == "cpu" and threads == 1 else "wall",
            },
            "hardware": {
                "processor": cpu_name(),
                "cores": os.cpu_count(),
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            },
            "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        }


def _file_facts(model: StyleTransferModel | str | Path) -> dict[str, str | None]:
    """Name and hash of a model's file; None for a model that was passed as an object."""
    if isinstance(model, StyleTransferModel):
        return {"file": None, "sha256": None}
    return {"file": Path(model).name, "sha256": _sha256(model)}


def _sha256(path: str | Path | None) -> str | None:
    if path is None:
        return None
    path = Path(path)
    file = path / "4SE.pth" if path.is_dir() else path  # the file that vgg19-slim reads of its folder
    return hashlib.sha256(file.read_bytes()).hexdigest()
