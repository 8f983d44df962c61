"""The amortisation gap: a model's loss divided by the loss of optimised pixels.

A model stylizes any pair of images in one pass; an optimisation of the pixels works on each pair separately.
The loss is content loss + 3 * style loss (mean and deviation, `ganmod.features.style_losses`) in one network;
a gap of 1 equals the optimum. An optimum takes minutes, so its losses are kept in a JSON file.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganmod.features.style_losses import content_loss, mean_std_loss
from ganmod.features.vgg import VGGFeatures
from ganmod.io.atomic_write import atomic_write_text
from metrics.style.table import standard_error

FORM = "ganmod optima 1"  # of the JSON file
STYLE_WEIGHT = 3.0
NUM_IMAGES = 5  # contents and styles that gaps are measured on


class PairLosses(NamedTuple):
    """Losses of one image: content loss, and style loss of means and deviations."""

    content: float
    style: float

    @property
    def total(self) -> float:
        """The minimised loss."""
        return self.content + STYLE_WEIGHT * self.style


@dataclass(frozen=True)
class Optima:
    """Losses of optimised pixels, and how they were made.

    Args:
        network: `network_digest` of the loss network.
        size: short side of the contents and side of the styles in pixels.
        settings: of the optimisation, plain values.
        losses: {(content, style): losses} by the names of the images.
    """

    network: str
    size: int
    settings: Mapping[str, Any]
    losses: Mapping[tuple[str, str], PairLosses]

    def to_json(self) -> dict[str, Any]:
        """Plain values, which `read_optima` reads back."""
        return {
            "form": FORM,
            "network_sha256": self.network,
            "size": self.size,
            "style_weight": STYLE_WEIGHT,
            "settings": dict(self.settings),
            "columns": ["content", "style", "content_loss", "style_loss"],
            "pairs": [[*names, *losses] for names, losses in self.losses.items()],
        }


def network_digest(network: VGGFeatures) -> str:
    """SHA-256 of a network's weights: names, types, shapes, bytes.

    Its RMS are left out: they follow from the weights, up to rounding that depends on the machine.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(network.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {list(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.inference_mode()
def measure_losses(result: Tensor, content: Tensor, style: Tensor, network: VGGFeatures) -> PairLosses:
    """Losses of a result [1,3,H,W], clamped to [0,1], for a content of its size and a style of any size."""
    features = network.normalized(result.clamp(0, 1))
    return PairLosses(
        float(content_loss(features, network.normalized(content))),
        float(mean_std_loss(features, network.normalized(style))),
    )


def read_optima(path: Path) -> Optima:
    """Read the file of `measure_optima`. Raises ValueError, with advice, for any other file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["form"] != FORM or values["style_weight"] != STYLE_WEIGHT:
            raise ValueError(f"form {values['form']!r}, style weight {values['style_weight']}")
        losses = {(c, s): PairLosses(float(a), float(b)) for c, s, a, b in values["pairs"]}
        if not all(math.isfinite(pair.total) and pair.total > 0 for pair in losses.values()):
            raise ValueError("a loss is not a positive number")
        return Optima(str(values["network_sha256"]), int(values["size"]), dict(values["settings"]), losses)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} does not hold the losses of optima ({type(error).__name__}: {error}): expected JSON of "
            f"form {FORM!r}; name another file, which is then written"
        ) from error


def measure_optima(
    contents: Mapping[str, Tensor],
    styles: Mapping[str, Tensor],
    network: VGGFeatures,
    *,
    optimise: Callable[[str, str], Tensor],
    size: int,
    settings: Mapping[str, Any],
    file: Path | None = None,
    done: Callable[[], object] = lambda: None,
) -> Optima:
    """Losses of the optimum of every content with every style.

    Args:
        contents: {name: [1,3,H,W] in [0,1]}, sides multiples of 8.
        styles: {name: [1,3,h,w] in [0,1]}.
        optimise: names of a content and a style -> the optimum, of the content's size.
        size: stored with the losses, see `Optima`.
        file: JSON that keeps the losses: pairs that it holds are not optimised again, and it is written after
            each new one.
        done: called after each pair.

    Raises:
        ValueError: if the file is of another network, size or other settings.
    """
    made = Optima(network_digest(network), size, dict(settings), {})
    losses: dict[tuple[str, str], PairLosses] = {}
    if file is not None and file.exists():
        before = read_optima(file)
        _check_alike(file, before, made)
        losses |= before.losses
    for style in styles:
        for content in contents:
            if (content, style) not in losses:
                losses[content, style] = measure_losses(
                    optimise(content, style), contents[content], styles[style], network
                )
                if file is not None:
                    kept = Optima(made.network, size, made.settings, losses)
                    atomic_write_text(file, json.dumps(kept.to_json(), indent=1) + "\n")
            done()
    wanted = {(c, s): losses[c, s] for s in styles for c in contents}
    return Optima(made.network, size, made.settings, wanted)


def amortisation_gap(losses: Mapping[tuple[str, str], PairLosses], optima: Optima) -> tuple[float, float]:
    """Mean of a model's loss divided by the optimum's, and its standard error.

    Args:
        losses: of the model, {(content, style): losses} by the images' names, in the network of the optima.
        optima: their pairs are averaged over.

    Raises:
        ValueError: if a pair of the optima is missing.
    """
    missing = [pair for pair in optima.losses if pair not in losses]
    if missing or not optima.losses:
        raise ValueError(
            f"{len(missing)} of the {len(optima.losses)} pairs of the optima were not measured, first "
            f"{missing[:1]}: measure the losses of all, and of one at least"
        )
    index = [
        {name: i for i, name in enumerate(dict.fromkeys(names))} for names in zip(*optima.losses, strict=True)
    ]
    ratios = [
        (index[0][c], index[1][s], losses[c, s].total / optimum.total)
        for (c, s), optimum in optima.losses.items()
    ]
    return statistics.fmean(ratio for _, _, ratio in ratios), standard_error(ratios)


def gap_images(names: Sequence[str]) -> list[str]:
    """The images for gaps: five, evenly spaced over the list, such as every fourth of twenty."""
    return list(names[:: max(len(names) // NUM_IMAGES, 1)][:NUM_IMAGES])


def _check_alike(file: Path, former: Optima, wanted: Optima) -> None:
    for what in ("network", "size", "settings"):
        before, now = getattr(former, what), getattr(wanted, what)
        if before != now:
            raise ValueError(
                f"{file} holds optima of another {what}: {before}, expected {now}; measure as it says, or "
                "name another file, which is then written"
            )
