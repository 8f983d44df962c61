"""The distances that a training loop logs, of fresh samples to the real images."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from ganmod.process_shares import ONE_PROCESS, Processes
from metrics.features.base import FeatureSpace, metric_name
from metrics.image_sets.distances import cautions, measure_distances, needs_features, prepare_real
from metrics.image_sets.features import SetFeatures, measure_generator

Generate = Callable[[Tensor], Tensor]


class RealImages(NamedTuple):
    """A set of real images.

    Attributes:
        load: global indices -> images, as for `measure_set`.
        content_hash: gives a hash of the images and of what is done to them.
    """

    load: Callable[[Tensor], Sequence[Tensor | None]]
    num_images: int
    content_hash: Callable[[], str]


class MetricHook:
    """Distances of generated images to one or more real sets, equal on every process and for any number.

    One set gives {"fd_squeezenet1_1": distance}. Several give the mean over them under that name, and each
    one's under "fd_squeezenet1_1/SET". Only in Inception's features it is fid. Values are comparable where
    their `conditions`, which stand beside them, are equal.
    """

    def __init__(
        self,
        space: FeatureSpace,
        real: Mapping[str, SetFeatures],
        num_images: int,
        *,
        measures: Sequence[str] = ("fid",),
        batch_size: int = 64,
        seed: int = 0,
        processes: Processes = ONE_PROCESS,
    ) -> None:
        """Measure nothing yet.

        Args:
            real: the real images in `space`, by the name of their set, with features for kid.
            num_images: samples per set and call, over all processes.
            measures: fid, kid or both; the first gives `name`.

        Raises ValueError when a set is of another space's dimension, or num_images is below 2.
        """
        for features in real.values():
            if features.gaussian.dim != space.dim:
                raise ValueError(
                    f"the real images' statistics hold {features.gaussian.dim} features, but {space.name} "
                    f"has {space.dim}: measure them in this space"
                )
        if num_images < 2 or batch_size < 1:
            raise ValueError(
                f"got num_images {num_images} and batch_size {batch_size}, expected 2 and 1 or more"
            )
        self.space, self.real, self.num_images, self.batch_size = space, dict(real), num_images, batch_size
        self.measures, self.seed, self.processes = tuple(measures), seed, processes
        self.name = metric_name(space.name, "kd" if self.measures[0] == "kid" else "fd")
        self._prepared = {
            name: prepare_real(features, measures, space) for name, features in self.real.items()
        }

    @property
    def conditions(self) -> dict[str, str | int | None]:
        """All that two values must share to be compared, as plain values; numbers of images are totals."""
        shared: dict[str, str | int | None] = {
            "metric": self.name,
            "space": self.space.fingerprint or self.space.name,
            "num_real": sum(features.count for features in self.real.values()),
            "num_generated": self.num_images * len(self.real),
            "seed": self.seed,
        }
        return shared | ({"sets": ", ".join(self.real)} if len(self.real) > 1 else {})

    @property
    def cautions(self) -> list[str]:
        """What a reader has to know about these numbers of images."""
        fewest = min(features.count for features in self.real.values())
        return cautions(self.measures, self.num_images, fewest, self.space.dim)

    def __call__(
        self,
        generators: Mapping[str, Generate],
        *,
        done: Callable[[int], object] = lambda num_images: None,
    ) -> dict[str, float]:
        """Distances of generated images; every process must call this.

        generators: by set, global indices int64 [n] on the CPU -> uint8 RGB [n,3,H,W], as for
        `measure_generator`. Torch's random state is left as it was.

        done: called after each batch of this process with its number of images. Frechet distances may be
        negative by rounding. Raises ValueError, so that nothing wrong is logged, when samples, features or
        a distance are not finite, and for generators of other sets than the real ones.
        """
        if generators.keys() != self.real.keys():
            raise ValueError(f"got generators of {list(generators)}, expected of {list(self.real)}")
        by_set: dict[str, dict[str, float]] = {}
        for name, real in self.real.items():
            generated = measure_generator(
                generators[name],
                self.num_images,
                self.space,
                keep=needs_features(self.measures),
                batch_size=self.batch_size,
                seed=self.seed,
                processes=self.processes,
                done=done,
            )
            by_set[name] = measure_distances(
                generated, real, self.measures, self.space, seed=self.seed, prepared=self._prepared[name]
            )
        values = list(by_set.values())
        means = {metric: statistics.fmean(by_name[metric] for by_name in values) for metric in values[0]}
        if len(by_set) == 1:
            return means
        return means | {
            f"{metric}/{name}": value
            for name, distances in by_set.items()
            for metric, value in distances.items()
        }
