"""Measure sets of images under equal conditions: same batches, processes and cache of real sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ganmod.process_shares import ONE_PROCESS, Processes
from metrics.features.base import FeatureSpace
from metrics.image_sets.features import SetFeatures, measure_set, reference_set
from metrics.image_sets.sources import FileImages, ImageSource
from metrics.image_sets.stylized import CroppedImages
from metrics.progress import Progress, no_progress


@dataclass(frozen=True)
class SetMeter:
    """Measures sets of images, all in the same way.

    Args:
        keep: keep the features, which all metrics but the Frechet distance need.
        batch_size: images per batch.
        processes: those that share the images; all of them must call the methods.
        cache_dir: folder for the statistics of real images, None for no cache.
        progress: shows each pass over a set.
    """

    keep: bool = False
    batch_size: int = 64
    processes: Processes = ONE_PROCESS
    cache_dir: Path | None = None
    progress: Progress = no_progress

    def measure(self, source: ImageSource, space: FeatureSpace, *, title: str) -> SetFeatures:
        """`measure_set` of all images of a source; the progress bar shows `title`."""
        share = sum(map(len, self.processes.batches(source.num_images, self.batch_size)))
        with self.progress(share, title) as bar:
            return measure_set(
                source.load,
                source.num_images,
                space,
                keep=self.keep,
                batch_size=self.batch_size,
                processes=self.processes,
                done=bar.update,
            )

    def content_hash(self, files: FileImages | CroppedImages, *, title: str) -> str:
        """Hash of the images' files."""
        with self.progress(files.num_images, f"{title}, hash") as bar:
            return files.content_hash(bar.update)

    def measure_reference(
        self, files: FileImages | CroppedImages, space: FeatureSpace, *, title: str, content_hash: str | None
    ) -> SetFeatures:
        """`measure` of real images, from the cache if it has an entry.

        Args:
            content_hash: key of the cache, see the method; None does not use the cache.
        """

        def measure() -> SetFeatures:
            return self.measure(files, space, title=title)

        if content_hash is None or self.cache_dir is None or space.fingerprint is None:
            return measure()
        return reference_set(
            measure,
            space,
            content_hash=content_hash,
            cache_dir=self.cache_dir,
            keep=self.keep,
            processes=self.processes,
        )
