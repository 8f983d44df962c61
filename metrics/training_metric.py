"""The Frechet distance that a training loop logs, of fresh samples to the real images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ganmod.feature_spaces import FeatureSpace, metric_name
from metrics.feature_statistics import statistics_of_generator
from metrics.frechet import GaussianStatistics, covariance_root, frechet_distance
from metrics.process_shares import ONE_PROCESS, Processes


class MetricHook:
    """generate -> {"fd_squeezenet1_1": distance}, the same on every process and for any number of them.

    Not FID, which is the distance in Inception's features. Values are comparable only at one num_images and
    one fingerprint of the space, both of which stand beside them in `conditions`.
    """

    def __init__(
        self,
        space: FeatureSpace,
        real: GaussianStatistics,
        num_images: int,
        *,
        batch_size: int = 64,
        seed: int = 0,
        processes: Processes = ONE_PROCESS,
        done: Callable[[int], object] = lambda num_images: None,
    ) -> None:
        """real: statistics of the real images in `space`. num_images: samples per call, over all processes.

        done: called after each batch of this process with its number of images. Raises ValueError when the
        statistics are of another space's dimension, or num_images is below 2.
        """
        if real.dim != space.dim:
            raise ValueError(
                f"the real images' statistics hold {real.dim} features, but {space.name} has {space.dim}: "
                "measure them in this space"
            )
        if num_images < 2 or batch_size < 1:
            raise ValueError(
                f"got num_images {num_images} and batch_size {batch_size}, expected 2 and 1 or more"
            )
        self.space, self.real, self.num_images, self.batch_size = space, real, num_images, batch_size
        self.seed, self.processes, self.done = seed, processes, done
        self.name = metric_name(space.name)
        self._real_root = covariance_root(real)  # half of a distance's work, done once

    @property
    def conditions(self) -> dict[str, str | int | None]:
        """All that two values must share to be compared, as plain values."""
        return {
            "metric": self.name,
            "space": self.space.fingerprint or self.space.name,
            "num_real": self.real.count,
            "num_generated": self.num_images,
            "seed": self.seed,
        }

    def __call__(self, generate: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """generate: global indices, int64 [n] on the CPU -> uint8 RGB [n,3,H,W], as for
        `statistics_of_generator`; every process must call this. Torch's random state is left as it was.

        The value may be negative by rounding. Raises ValueError, so that nothing wrong is logged, when
        samples, features or the distance are not finite.
        """
        statistics = statistics_of_generator(
            generate,
            self.num_images,
            self.space,
            batch_size=self.batch_size,
            seed=self.seed,
            processes=self.processes,
            done=self.done,
        )
        return {self.name: frechet_distance(statistics.finish(), self.real, second_root=self._real_root)}
