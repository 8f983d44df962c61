"""How training runs are measured for a comparison, and the type of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ganmod.process_shares import ONE_PROCESS, Processes
from metrics.compare.runs import MeasuredRun
from metrics.features.base import FeatureSpace
from metrics.image_sets.distances import check_num_images, needs_features
from metrics.image_sets.meter import SetMeter
from metrics.progress import Progress, no_progress

RECIPES = {"stylegan2": "StyleGAN2", "starganv2": "StarGAN v2", "style": "Style transfer"}  # name: title
CPU = torch.device("cpu")


def _for_recipes(*recipes: str, needed: str = "") -> dict[str, Any]:
    """Metadata of a field that only these recipes use; `needed` describes it if it is required."""
    return {"recipes": recipes, "needed": needed}


@dataclass(frozen=True)
class RunProtocol:
    """How to measure, the same for all runs. A recipe rejects fields that only others use.

    Args:
        spaces: feature spaces; the same images are measured in each.
        metrics: some of fid, kid, pr, dc; only fid for StarGAN v2.
        num: images per draw, by default at most 5,000; sources of each domain for StarGAN v2, by default 100.
        draws: disjoint sets of samples per run.
        seed: first seed of the samples.
        batch_size: images per batch.
        device: where the models run.
        processes: those that share the images.
        cache_dir: folder for the statistics of real images, None for no cache.
        progress: shows each pass over a set of images.
        data: real images, a folder or a zip; with a sub-folder per domain for StarGAN v2.
        truncation_psi: of StyleGAN2's samples, 0 or more.
        content: photos to stylize.
        styles: style images, to which stylized photos are compared.
        size: side of the stylized images in pixels.
        lpips_weights: file of LPIPS' network (SqueezeNet 1.1), for the diversity of StarGAN v2 and the
            perceptual path length of StyleGAN2, of as many pairs as images; without it both are left out.
    """

    spaces: Sequence[FeatureSpace] = ()
    metrics: Sequence[str] = ("fid",)
    num: int | None = None
    draws: int = 3
    seed: int = 0
    batch_size: int = 64
    device: torch.device = CPU
    processes: Processes = ONE_PROCESS
    cache_dir: Path | None = None
    progress: Progress = no_progress
    data: str | Path | None = field(
        default=None, metadata=_for_recipes("stylegan2", "starganv2", needed="real images, a folder or a zip")
    )
    truncation_psi: float = field(default=1.0, metadata=_for_recipes("stylegan2"))
    content: str | Path | None = field(
        default=None, metadata=_for_recipes("style", needed="images to stylize")
    )
    styles: Sequence[str | Path] = field(default=(), metadata=_for_recipes("style", needed="style images"))
    size: int = field(default=256, metadata=_for_recipes("style"))
    lpips_weights: str | Path | None = field(default=None, metadata=_for_recipes("stylegan2", "starganv2"))

    @property
    def meter(self) -> SetMeter:
        """Measures sets of images by this protocol."""
        return SetMeter(
            keep=needs_features(self.metrics),
            batch_size=self.batch_size,
            processes=self.processes,
            cache_dir=self.cache_dir,
            progress=self.progress,
        )

    def check(self, recipe: str) -> None:
        """Raise ValueError, starting with a field's name, if the protocol does not fit the recipe."""
        for one in fields(self):
            if not one.metadata:
                continue
            value = getattr(self, one.name)
            if recipe not in one.metadata["recipes"] and value != one.default:
                raise ValueError(f"{one.name} is not for runs of {RECIPES[recipe]}: leave it out")
            if recipe in one.metadata["recipes"] and one.metadata["needed"] and not value:
                raise ValueError(f"{one.name} is missing: {one.metadata['needed']}")
        if self.truncation_psi < 0:
            raise ValueError(f"truncation_psi is {self.truncation_psi}, expected 0 or more")
        if recipe == "starganv2" and tuple(self.metrics) != ("fid",):
            raise ValueError(
                f"metrics are {', '.join(self.metrics)}, but runs of StarGAN v2 are measured by fid alone"
            )
        check_num_images(self.num, self.metrics)


class Outcome(NamedTuple):
    """The measurements of all runs.

    Args:
        runs: the figures.
        pictures: {run: rows of samples}, equal inputs at equal positions.
        header: real images above the pictures: of the data, references or styles.
        header_label: what these are.
        conditions: of all figures, plain values.
        notes: sentences for the report.
    """

    runs: list[MeasuredRun]
    pictures: dict[str, list[list[np.ndarray | None]]]
    header: list[np.ndarray | None] | None
    header_label: str
    conditions: dict[str, Any]
    notes: list[str]
