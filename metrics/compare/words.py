"""Words for the page of a comparison: titles and meanings of columns, for the names in the files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from metrics.features.base import metric_name
from metrics.features.pretrained import NAMES

SPACES = {
    "squeezenet1_1": "SqueezeNet 1.1",
    "cifar-resnet56": "a ResNet-56 of CIFAR-10",
    "dinov2": "DINOv2",
    "vgg19": "VGG-19",
    "vgg19-slim": "the compressed VGG-19",
    "vgg19-slim-aux": "the compressed VGG-19 at full width",
    "ganmod-slim": "ganmod's own VGG",
    "inception-torchvision": "torchvision's Inception-v3",
}
MEASURES = {  # name: (title, meaning)
    "fid": ("FID", "how far the samples' features are from the real images', as two Gaussians"),
    "fd": ("Frechet distance", "as FID, but in another network: not comparable with published FID"),
    "kid": ("KID", "as FID, by a polynomial kernel; unbiased for few images"),
    "kd": ("kernel distance", "as KID, but in another network"),
    "precision": ("precision", "share of samples that look like some real image"),
    "recall": ("recall", "share of real images that look like some sample"),
    "density": ("density", "as precision, less sensitive to outliers; about 1 for the real distribution"),
    "coverage": ("coverage", "share of real images with a sample nearby"),
    "lpips": ("LPIPS", "difference that people see between translations of one image: their diversity"),
    "ppl": (
        "perceptual path length",
        "how far a sample moves, by LPIPS, under a small step in w: smoothness",
    ),
    "style_error": ("style error", "error of the styles that the style encoder reads off the translations"),
}
GUIDANCE = {"latent": "styles from latents", "reference": "styles from references"}
COLUMNS = {  # heading in the files: (title, meaning)
    "row": ("run", "runs that are equal but for their training seed share a row"),
    "training seeds": ("training seeds", "how many such runs there are"),
    "G parameters (M)": ("parameters (millions)", "of the generator, or the trained part of a style model"),
    "kimg": ("thousand images", "that the run was trained on, repetitions counted"),
    "s/kimg": ("seconds per thousand images", "of training"),
    "peak memory (MiB)": ("peak memory (MiB)", "of training"),
    "non-finite steps": ("skipped steps", "whose losses or gradients were not finite"),
    "sd over training seeds": ("± trained again", "standard deviation over runs with other training seeds"),
    "checkerboard power / real": (
        "checkerboard, times real",
        "power of the finest checkerboard pattern, divided by that in the real images; 1 is best",
    ),
    "stripes power / real": ("stripes, times real", "likewise for the finest stripes"),
    "high power / real": ("finest detail, times real", "likewise for all the finest detail"),
}
CURVES = {
    "seconds_per_kimg": "seconds per thousand images",
    "loss/G": "loss of the generator",
    "loss/D": "loss of the discriminator",
    "loss/r1": "R1 penalty",
    "loss/r2": "R2 penalty",
    "loss/path_length": "path length penalty",
    "loss/total": "whole loss",
    "loss/content": "content loss",
    "loss/style": "style loss",
}
_DRAWS = re.compile(r"sd over (\d+) sampling draws")


class Words(NamedTuple):
    """A column's title and what it means."""

    title: str
    meaning: str


def metric_words(metric: str, spaces: Sequence[str] = ()) -> Words:
    """Words for a measure such as "latent/fd_squeezenet1_1".

    spaces: names of spaces of one's own, beside the known ones.
    """
    guidance, _, rest = metric.partition("/")
    name = rest if guidance in GUIDANCE else metric
    others = [space for space in (*spaces, *NAMES) if space != "inception"]  # whose measures have no suffix
    names = {metric_name(space, kind): (kind, space) for kind in MEASURES for space in others}
    similar = next((kind for kind in MEASURES if name.startswith(f"{kind}_")), name)
    kind, space = names.get(name, (name if name in MEASURES else similar, ""))
    title, meaning = MEASURES.get(kind, (name, "a measure of one's own"))
    if space:
        title = f"{title} in {SPACES.get(space, space)}"
    return Words(f"{title}, {GUIDANCE[guidance]}" if guidance in GUIDANCE else title, meaning)


def column_words(heading: str, spaces: Sequence[str] = ()) -> Words:
    """Words for a heading of the table in the files, such as "fid, lower is better"."""
    if heading in COLUMNS:
        return Words(*COLUMNS[heading])
    if draws := _DRAWS.fullmatch(heading):
        return Words("± sampled again", f"standard deviation over {draws[1]} sets of samples of one run")
    metric, comma, better = heading.partition(",")
    words = metric_words(metric, spaces)
    return Words(words.title, words.meaning + (f";{better}" if comma else ""))


def curve_words(key: str, spaces: Sequence[str] = ()) -> str:
    """The title of a curve of stats.jsonl or metrics.jsonl."""
    if key in CURVES:
        return CURVES[key]
    return key.replace("loss/", "loss, ") if key.startswith("loss/") else metric_words(key, spaces).title
