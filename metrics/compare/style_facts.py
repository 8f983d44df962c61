"""What the figures of a comparison of style-transfer models depend on besides the images."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ganmod.machine import cpu_name
from metrics.style.rotation import ANGLES, MIN_COHERENCE, MIN_STRENGTH, WINDOW

LIBRARIES = ("ganmod", "torch", "torchvision", "numpy", "scipy", "scikit-image", "pillow")
REPEATS = 5  # of the timing


@dataclass(frozen=True)
class StyleInputs:
    """The files and settings of a comparison; `size` in pixels."""

    models: Mapping[str, Path]
    content: Path
    styles: Sequence[Path]
    loss_network: str
    feature_weights: Path | None
    lpips_weights: Path | None
    size: int
    pictures: Mapping[str, Path] = field(default_factory=dict)
    optimised: Path | None = None
    optima: Path | None = None

    def command(self) -> str:
        """The line that repeats the comparison, files and folders by their names alone."""
        words = ["ganmod", "compare", "--style"]
        words += [word for name, path in self.models.items() for word in ("--name", f"{name}={path.name}")]
        words += [
            word for name, path in self.pictures.items() for word in ("--pictures", f"{name}={path.name}")
        ]
        words += ["--content", self.content.resolve().name]
        words += [word for folder in self.styles for word in ("--styles", folder.resolve().name)]
        words += ["--loss-network", self.loss_network]
        files = {
            "--feature-weights": self.feature_weights,
            "--lpips-weights": self.lpips_weights,
            "--optimised": self.optimised,
            "--optima": self.optima,
        }
        for option, file in files.items():
            words += [option, file.name] if file is not None else []
        words += ["--size", str(self.size), "--threads", str(torch.get_num_threads())]
        return shlex.join([*words, "--pairs", "pairs.json", "-o", "report"])

    def facts(self, device: torch.device) -> dict[str, Any]:
        """Plain values: hashes of the files, settings, machine and versions."""
        threads = torch.get_num_threads()
        return {
            "command": self.command(),
            "size": self.size,
            "models": {n: {"file": path.name, "sha256": _sha256(path)} for n, path in self.models.items()},
            "loss_network": {
                "name": self.loss_network,
                "sha256": self.feature_weights and _sha256(self.feature_weights),
            },
            "lpips": {
                "network": "SqueezeNet 1.1",
                "sha256": self.lpips_weights and _sha256(self.lpips_weights),
            },
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


def _sha256(path: Path) -> str:
    file = path / "4SE.pth" if path.is_dir() else path  # the file that vgg19-slim reads of its folder
    return hashlib.sha256(file.read_bytes()).hexdigest()
