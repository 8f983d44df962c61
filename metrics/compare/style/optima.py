"""Optimised pixels for pairs of images: a row of a comparison, and the reference of gaps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganmod.features.vgg import VGGFeatures
from ganmod.io.atomic_write import atomic_write_text
from ganmod.io.images import read_image, to_tensor, to_uint8, write_image
from metrics.progress import Progress, no_progress
from metrics.style.amortisation import network_digest
from metrics.style.pair_pictures import pair_files, picture_name
from style_transfer.optimize import OptimizeSettings, PixelOptimizer

# At least 400 iterations, until the last 100 lower the loss by less than 1 %.
SETTINGS = OptimizeSettings(algorithm="lbfgs", sizes=1, steps=400, until_gain=0.01)
MADE_WITH = "made_with.json"  # in a folder of optima


class PixelOptima:
    """Optimised pictures of contents and styles, by name, rounded to 8 bits."""

    def __init__(
        self,
        contents: Mapping[str, Tensor],
        styles: Mapping[str, Tensor],
        network: VGGFeatures,
        *,
        size: int,
        settings: OptimizeSettings,
        folder: Path | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Prepare the optimisation; pictures are optimised on demand.

        Args:
            contents: {name: [1,3,H,W] in [0,1]}.
            styles: {name: [1,3,h,w] in [0,1]}.
            folder: where pictures are stored and looked up.
            progress: shows the steps of each optimisation.

        Raises:
            ValueError: if the folder's pictures were made with other settings.
        """
        self.contents, self.styles, self.network, self.settings = contents, styles, network, settings
        self.folder, self.progress = folder, progress
        self.made_with: dict[str, Any] = {
            "network_sha256": network_digest(network),
            "size": size,
            "settings": asdict(settings),
        }
        if folder is not None:
            pair_files(folder, list(contents), list(styles))  # raises ValueError for names that share a file
            _record_settings(folder, self.made_with)

    def __call__(self, content: str, style: str) -> Tensor:
        """The optimised picture, [1,3,H,W] in [0,1]; takes minutes unless the folder holds it."""
        like = self.contents[content]
        file = None if self.folder is None else self.folder / picture_name(content, style)
        if file is not None and file.exists():
            picture = read_image(file)
            if picture.shape[:2] != like.shape[2:]:
                raise ValueError(
                    f"{file} is {picture.shape[0]} x {picture.shape[1]} pixels, expected {like.shape[2]} x "
                    f"{like.shape[3]} of {content}: remove it, and it is made again"
                )
        else:
            picture = self._optimise(content, style)
            if file is not None:
                write_image(file, picture)
        return to_tensor(picture)[None].to(like)

    def _optimise(self, content: str, style: str) -> Any:
        with torch.inference_mode(False), torch.enable_grad():  # the caller may have disabled gradients
            # Copies, as tensors made in inference mode cannot take part in gradients.
            images = (self.contents[content].clone(), self.styles[style].clone())
            run = PixelOptimizer(*images, self.network, self.settings)
            with self.progress(run.total, picture_name(content, style)) as bar:
                for step in run:
                    bar.total = step.total  # grows while the loss falls
                    bar.update()
            return to_uint8(run.pixels.detach()[0])


def _record_settings(folder: Path, made_with: Mapping[str, Any]) -> None:
    """Record how the folder's pictures are made. Raises ValueError if they were made differently."""
    file = folder / MADE_WITH
    if file.exists():
        try:
            former = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is no JSON ({error}): name another folder for the optima") from error
        if former != json.loads(json.dumps(made_with)):
            raise ValueError(
                f"the optima in {folder} were made with {former}, expected {dict(made_with)}: name another "
                "folder"
            )
        return
    if folder.is_dir() and any(folder.glob("*.png")):
        raise ValueError(
            f"{folder} holds pictures, but no {MADE_WITH} that says how they were made: name another folder, "
            "or measure them with --pictures"
        )

    atomic_write_text(file, json.dumps(made_with, indent=1) + "\n")
