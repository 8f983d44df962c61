"""The folder of inputs that a job reads: images in plain zips, feature networks, held-out pairs, wheels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ganmod.data.files import ImageFiles
from ganmod.io.images import read_image

MANIFEST = "inputs.json"
CONTENTS, STYLES, EVALUATION = "contents.zip", "styles.zip", "evaluation.zip"
FACES = "faces.zip"  # of one size, a folder per class
FEATURES, WHEELS = "features", "wheels"  # folders
DECODERS = 16  # threads


@dataclass(frozen=True)
class Inputs:
    """What inputs.json says. features: {name: file in features/}; contents, styles: names of the held-out
    images, which lie in evaluation.zip, in folders of these names; about: how the images were packed.
    """

    features: dict[str, str]
    contents: list[str]
    styles: list[str]
    about: dict[str, str | int]

    def write(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=1) + "\n")


def read_inputs(folder: Path) -> Inputs:
    """The manifest of a folder that `pack` wrote; ValueError for another folder."""
    try:
        return Inputs(**json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{folder} is no folder of inputs ({error}): write one with `released_models.py pack`"
        ) from error


def feature_path(folder: Path, inputs: Inputs, name: str) -> str | None:
    """Where the inputs hold a feature network; None if they do not, and load_features looks for it itself."""
    return str(folder / FEATURES / inputs.features[name]) if name in inputs.features else None


def read_images(path: Path, names: Sequence[str] | None = None) -> list[np.ndarray]:
    """Images of a zip, all or those named, uint8 [H,W,3] each, decoded side by side."""
    files = ImageFiles(path)
    chosen = list(names) if names is not None else files.names
    encoded = [files.read_bytes(name) for name in chosen]  # the zip is one file: read in turn
    with ThreadPoolExecutor(DECODERS) as pool:
        return list(pool.map(lambda i: read_image(encoded[i], name=chosen[i]), range(len(chosen))))


def held_out(folder: Path, inputs: Inputs) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The contents and the styles of the held-out pairs."""
    path = folder / EVALUATION
    return (
        read_images(path, [f"contents/{name}" for name in inputs.contents]),
        read_images(path, [f"styles/{name}" for name in inputs.styles]),
    )
