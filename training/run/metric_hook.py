"""Metrics during training: which are asked for, the real images they compare with, the best model so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from configs.sections import TrainingMetric, parse_metric
from ganmod.data.seeding import preserve_random_state
from ganmod.io.user_cache import user_cache_dir
from ganmod.process_shares import current_processes
from metrics.features.base import FeatureSpace, current_metric_name
from metrics.features.pretrained import load_feature_space
from metrics.image_sets.distances import needs_features
from metrics.image_sets.features import SetFeatures, measure_set, reference_set
from training.run.checkpoint import restoring
from training.run.folder import BEST_FILE
from training.run.lifecycle import Run
from training.run.progress import RunProgress
from training.run.training_metric import Generate, MetricHook, RealImages

BATCH = 64  # images
KERNEL = ("kid", "kd")
INCEPTION = ("fid", "kid")


class Wanted(NamedTuple):
    """One pass over fresh samples: in which space, how many, for which measures of METRICS."""

    space: FeatureSpace
    num_images: int
    measures: tuple[str, ...]


def wanted_metrics(config: TrainingMetric, device: torch.device) -> list[Wanted]:
    """What the configuration asks for, in its order, with the feature networks loaded; nothing if it is off.

    Raises FeatureError for a missing network, ValueError where two of the metrics are the same.
    """
    if not config.every:
        return []
    kinds = [parse_metric(name, config.num_images) for name in config.names]
    others = any(kind not in INCEPTION for kind, _ in kinds)
    spaces: dict[str, FeatureSpace] = {}
    passes: dict[tuple[str, int], list[str]] = {}
    for kind, num_images in kinds:
        name = "inception" if kind in INCEPTION else config.features
        if name not in spaces:
            weights = config.feature_weights if name == config.features or not others else None
            spaces[name] = load_feature_space(name, weights, device=device)
        passes.setdefault((name, num_images), []).append("kid" if kind in KERNEL else "fid")
    measured = [(name, measure) for (name, _), measures in passes.items() for measure in measures]
    if len(set(measured)) < len(measured):
        raise ValueError(
            f"metric.names {', '.join(config.names)}: in the features of {config.features} two of them are "
            "the same, leave one out"
        )
    return [Wanted(spaces[name], count, tuple(measures)) for (name, count), measures in passes.items()]


class RunMetrics:
    """The metrics of a run, none if they are off. best: the lowest value so far of the first one."""

    def __init__(
        self,
        config: TrainingMetric,
        run: Run,
        real: Mapping[str, RealImages],
        *,
        snapshot_kimg: float,
        seed: int,
        batch_size: int,
    ) -> None:
        """Load the feature networks and measure the real images. Torch's random state is left as it was.

        All processes call this.

        Args:
            config: which metrics, and every how many snapshots.
            run: receives the values.
            real: sets of real images by name, measured here unless a cache holds them.
            snapshot_kimg: thousands of images between snapshots.
            seed: of the samples.
            batch_size: samples at a time, at most 64.
        """
        self.every_kimg = snapshot_kimg * max(config.every, 1)
        self.processes = current_processes(run.process.device)
        self.hidden = True if run.show is False else None
        with preserve_random_state():
            wanted = wanted_metrics(config, run.process.device)
        self.hooks = [
            MetricHook(
                one.space,
                {name: self._measure_real(images, one, name) for name, images in real.items()},
                one.num_images,
                measures=one.measures,
                batch_size=min(BATCH, batch_size),
                seed=seed,
                processes=self.processes,
            )
            for one in wanted
        ]
        for hook in self.hooks:
            for caution in hook.cautions:
                run.folder.log(f"{hook.name}: {caution}")
        state = run.resumed_state or {}
        with restoring(run.folder.path):
            best_of = state.get("best_of")
            if best_of is not None:
                best_of = best_of | {"metric": current_metric_name(best_of["metric"])}
            same = best_of == self._conditions()
            self.best = float(state["best"]) if same and self.hooks else math.inf
        if self.hooks and state:  # the checkpoint was written before the model was measured
            name, conditions = self.hooks[0].name, self.hooks[0].conditions
            measured = run.folder.read_metrics(state["nimg"], conditions).get(name, math.inf)
            self.best = min(self.best, measured)

    def due(self, progress: RunProgress) -> bool:
        """Whether the model is to be measured now."""
        return bool(self.hooks) and progress.due(self.every_kimg) and not progress.interrupted

    def measure(
        self,
        run: Run,
        progress: RunProgress,
        generators: Mapping[str, Generate],
        save: Callable[[Path], object],
    ) -> None:
        """Write the distances of these samples to metrics.jsonl, and the model if it is the best so far.

        All processes call this.

        Args:
            run: receives the values.
            progress: of the run.
            generators: see MetricHook.
            save: writes the model to a path; called by the first process.
        """
        measured = []
        for hook in self.hooks:
            with self._bar(hook.num_images * len(generators), hook.name) as bar:
                measured.append(hook(generators, done=bar.update))
        first = measured[0][self.hooks[0].name]
        if first < self.best:
            self.best = first
            if run.folder.active:
                save(run.folder.path / BEST_FILE)  # before the line, which says that it is there
        for hook, values in zip(self.hooks, measured, strict=True):
            run.folder.write_metrics(progress.nimg, values | {"seconds": progress.seconds}, hook.conditions)

    def state_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"best": self.best, "best_of": self._conditions()}

    def _conditions(self) -> dict[str, Any] | None:
        return self.hooks[0].conditions if self.hooks else None

    def _measure_real(self, images: RealImages, wanted: Wanted, name: str) -> SetFeatures:
        """The real images in a space, from the user's cache where it holds them."""
        keep = needs_features(wanted.measures)

        def measure() -> SetFeatures:
            with self._bar(images.num_images, f"real images {name} in {wanted.space.name}") as bar:
                return measure_set(
                    images.load,
                    images.num_images,
                    wanted.space,
                    keep=keep,
                    batch_size=BATCH,
                    processes=self.processes,
                    done=bar.update,
                )

        return reference_set(
            measure,
            wanted.space,
            content_hash=images.content_hash(),
            cache_dir=user_cache_dir(),
            keep=keep,
            processes=self.processes,
        )

    def _bar(self, num_images: int, title: str) -> tqdm:
        """Of the first process, which sees its share of the images."""
        share = -(-num_images // self.processes.count)
        return tqdm(total=share, desc=title, unit="img", leave=False, disable=self.hidden)
