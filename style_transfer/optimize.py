"""Stylisation by optimising the pixels (Gatys et al. 2016): slow, but the best result of a loss.

Example::

    for step in optimize_pixels(content, style, network, settings=OptimizeSettings(style_weight=10)):
        print(step.done, step.total, step.style)
    stylized = step.image
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.features.style_losses import STYLE_LOSSES, content_loss
from ganmod.features.vgg import VGGFeatures
from style_transfer.prepare import MIN_SIDE

Algorithm = Literal["adam", "lbfgs"]
Start = Literal["content", "noise"]
COARSEST = 128  # pixels, short side: below it, VGG-19's relu4_1 has hardly any picture left
_ROUND = 100  # steps between two comparisons of the best loss, with until_gain


@dataclass(frozen=True)
class OptimizeSettings:
    """What is minimised, and how: content_weight * content + style_weight * style + tv_weight * variation.

    Pixels outside [0, 1] cost their squared distance, times 100.

    Attributes:
        style_loss: mean_std, gram or shifted_gram, of features divided by their RMS.
        steps: at each size.
        sizes: number of sizes, each half the next (coarse to fine), none with a short side below COARSEST.
        algorithm: adam or lbfgs; a step of L-BFGS is one iteration with a line search.
        lr: learning rate of Adam; it falls linearly to 0, or stays constant with until_gain.
        start: content or noise.
        until_gain: the last size continues in rounds of 100 steps until a round lowers the best loss by less
            than this share, for 1,000 steps at most; None: no further rounds.
    """

    style_loss: str = "mean_std"
    content_weight: float = 1.0
    style_weight: float = 3.0
    tv_weight: float = 0.0
    steps: int = 250
    sizes: int = 2
    algorithm: Algorithm = "adam"
    lr: float = 0.03
    start: Start = "content"
    until_gain: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.style_loss not in STYLE_LOSSES:
            raise ValueError(f"style_loss is {self.style_loss!r}, expected one of {', '.join(STYLE_LOSSES)}")
        for name, value, known in (("algorithm", self.algorithm, Algorithm), ("start", self.start, Start)):
            if value not in get_args(known):
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(get_args(known))}")
        for name in ("content_weight", "style_weight", "tv_weight"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number from 0 up")
        if self.steps < 1 or self.sizes < 1 or not self.lr > 0:
            raise ValueError(
                f"steps is {self.steps}, sizes {self.sizes}, lr {self.lr}: expected positive numbers"
            )


class OptimizeStep(NamedTuple):
    """State of an optimisation after step `done` of `total`, over all sizes, and its losses."""

    done: int
    total: int
    content: float
    style: float
    loss: float
    image: Tensor  # [1,3,h,w] in [0,1], of the current size


class PixelOptimizer:
    """An optimisation as an iterator over its steps; `state` and `load_state` resume it.

    Args:
        content: [1,3,H,W] in [0,1].
        style: [1,3,h,w] in [0,1]; at coarse sizes it is reduced by the same factor as the content.
        network: its features define the losses.

    Raises:
        ValueError: for images below 16 pixels.
    """

    def __init__(
        self, content: Tensor, style: Tensor, network: VGGFeatures, settings: OptimizeSettings | None = None
    ) -> None:
        self.settings = settings or OptimizeSettings()
        for name, image in (("content", content), ("style", style)):
            if image.ndim != 4 or image.shape[:2] != (1, 3) or min(image.shape[2:]) < MIN_SIDE:
                raise ValueError(
                    f"{name} has shape {list(image.shape)}, expected [1, 3, H, W] with sides of at least "
                    f"{MIN_SIDE}"
                )
        self.network = network
        shortest = min(content.shape[2:])
        count = 1 + max(0, min(self.settings.sizes - 1, int(math.log2(max(shortest / COARSEST, 1)))))
        self.pyramid = [
            (_downsample(content, 2**i), _downsample(style, 2**i)) for i in reversed(range(count))
        ]
        self.size, self.done, self.in_size = 0, 0, 0
        self.bests: list[float] = []  # of each round at the last size, with until_gain
        self.best = math.inf
        generator = torch.Generator().manual_seed(self.settings.seed)
        first = self.pyramid[0][0]
        self.pixels = first.contiguous()
        if self.settings.start == "noise":
            noise = torch.rand(first.shape, generator=generator, dtype=first.dtype)
            self.pixels = noise.to(first.device)
        self._begin_size()

    def __iter__(self) -> Iterator[OptimizeStep]:
        while not self._is_finished():
            if self.in_size >= self.settings.steps and self.size + 1 < len(self.pyramid):
                self.size, self.in_size = self.size + 1, 0
                target = self.pyramid[self.size][0]
                self.pixels = F.interpolate(
                    self.pixels.detach(), size=target.shape[2:], mode="bicubic", align_corners=False
                )
                self._begin_size()
            yield self._step()

    @property
    def total(self) -> int:
        """Number of steps known so far; `until_gain` adds rounds."""
        more = _ROUND * len(self.bests) if self.settings.until_gain is not None else 0
        return self.settings.steps * len(self.pyramid) + more

    def state(self) -> dict[str, Any]:
        """What `load_state` resumes from, as tensors and plain values."""
        return {
            "settings": asdict(self.settings),
            "counts": [self.size, self.done, self.in_size],
            "best": self.best,
            "bests": list(self.bests),
            "pixels": self.pixels.detach(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from a `state` of the same images and settings. Raises ValueError for others."""
        if state["settings"] != asdict(self.settings):
            raise ValueError(
                f"the state is of an optimisation with {state['settings']}, expected {asdict(self.settings)}"
            )
        try:
            self._restore(state)
        except (LookupError, TypeError, AttributeError, RuntimeError) as error:
            reason = str(error).split("\n", 1)[0]
            raise ValueError(f"the state is no state of an optimisation ({reason}): remove it") from error

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.size, self.done, self.in_size = state["counts"]
        self.best, self.bests = state["best"], list(state["bests"])
        if state["pixels"].shape != self.pyramid[self.size][0].shape:
            raise ValueError(
                f"the state holds an image {list(state['pixels'].shape)}, expected "
                f"{list(self.pyramid[self.size][0].shape)}: it is of other images"
            )
        self.pixels = state["pixels"].to(self.pixels)
        self._begin_size()
        self.optimizer.load_state_dict(state["optimizer"])

    def _is_finished(self) -> bool:
        if self.size + 1 < len(self.pyramid) or self.in_size < self.settings.steps:
            return False
        gain = self.settings.until_gain
        if gain is None:
            return True
        extra = self.in_size - self.settings.steps
        if extra % _ROUND:
            return False
        self.bests.append(self.best)
        slow = len(self.bests) > 1 and self.bests[-1] > self.bests[-2] * (1 - gain)
        return slow or self.in_size >= 10 * _ROUND

    def _begin_size(self) -> None:
        content, style = self.pyramid[self.size]
        with torch.no_grad():
            self.content_target = self.network.normalized(content)
            self.style_target = self.network.normalized(style)
        self.pixels = self.pixels.detach().contiguous().clone().requires_grad_(True)
        if self.settings.algorithm == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam([self.pixels], lr=self.settings.lr)
        else:
            self.optimizer = torch.optim.LBFGS(
                [self.pixels], max_iter=1, max_eval=20, history_size=20, line_search_fn="strong_wolfe"
            )

    def _losses(self) -> tuple[Tensor, Tensor, Tensor]:
        settings, x = self.settings, self.pixels
        features = self.network.normalized(x)
        content = content_loss(features, self.content_target).sum()
        style = STYLE_LOSSES[settings.style_loss](features, self.style_target).sum()
        beyond = (F.relu(x - 1).square() + F.relu(-x).square()).mean()
        loss = settings.content_weight * content + settings.style_weight * style + 100 * beyond
        if settings.tv_weight:
            variation = (x[..., 1:] - x[..., :-1]).abs().mean() + (
                x[..., 1:, :] - x[..., :-1, :]
            ).abs().mean()
            loss = loss + settings.tv_weight * variation
        return loss, content, style

    def _step(self) -> OptimizeStep:
        settings = self.settings
        if settings.algorithm == "adam" and settings.until_gain is None:
            for group in self.optimizer.param_groups:
                group["lr"] = settings.lr * (1 - self.in_size / settings.steps)
        seen: list[tuple[float, float, float]] = []

        def closure() -> float:
            self.optimizer.zero_grad()
            losses = self._losses()
            losses[0].backward()
            seen.append((losses[0].item(), losses[1].item(), losses[2].item()))
            return seen[-1][0]

        self.optimizer.step(closure)
        loss, content, style = seen[0]
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} at step {self.done}: lower lr ({settings.lr}) or the weights"
            )
        self.best = min(self.best, loss) if self.in_size else loss
        self.done, self.in_size = self.done + 1, self.in_size + 1
        return OptimizeStep(
            self.done, self.total, content, style, loss, self.pixels.detach().clamp(0, 1).clone()
        )


def optimize_pixels(
    content: Tensor, style: Tensor, network: VGGFeatures, settings: OptimizeSettings | None = None
) -> Tensor:
    """Stylise a content by optimising its pixels -> [1,3,H,W] in [0,1].

    Args:
        content: [1,3,H,W] in [0,1].
        style: [1,3,h,w] in [0,1].
        network: its features define the losses.

    Raises:
        ValueError: for images below 16 pixels, and for a loss that is not finite.
    """
    (last,) = collections.deque(PixelOptimizer(content, style, network, settings), maxlen=1)
    return last.image


def _downsample(image: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return image
    size = [max(round(side / factor), MIN_SIDE) for side in image.shape[2:]]
    return F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
