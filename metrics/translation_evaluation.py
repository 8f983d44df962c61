"""Evaluation of StarGAN v2 models: every ordered pair of domains, by latents and by references."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganmod.data.domain_images import DomainImages
from ganmod.data.seeding import draw
from ganmod.io.images import ImageError
from ganmod.process_shares import ONE_PROCESS, Processes
from ganmod.starganv2 import StarGANv2
from metrics.distances.frechet import GaussianStatistics
from metrics.features.base import FeatureSpace
from metrics.image_sets.cache import STATISTICS, load_or_measure
from metrics.image_sets.distances import cautions
from metrics.image_sets.features import measure_set
from metrics.images.lpips import LpipsDistance
from metrics.progress import Progress, no_progress
from metrics.translation import measure_pair, output_latents, output_references, summarize_pairs

RealStatistics = dict[tuple[str, int], dict[str, GaussianStatistics]]  # (space, image size): {domain: ...}
MODES = ("latent", "reference")  # where styles come from
NUM_OUTPUTS = 10  # per source image, as published

_CACHE_MB = 1024


@torch.no_grad()
def evaluate_starganv2(
    networks: StarGANv2,
    data: str | Path,
    space: FeatureSpace,
    *,
    real_data: str | Path | None = None,
    lpips: LpipsDistance | None = None,
    num_outputs: int = NUM_OUTPUTS,
    num_sources: int | None = None,
    seed: int = 0,
    modes: Sequence[str] = MODES,
    batch_size: int = 8,
    device: str | torch.device = "cpu",
    processes: Processes = ONE_PROCESS,
    progress: Progress = no_progress,
    title: str = "translations",
    cautioned: Callable[[str], object] = lambda sentence: None,
    real_statistics: RealStatistics | None = None,
    cache_dir: Path | None = None,
) -> dict[str, float]:
    """Measure translations between all domains, by latents and by references.

    Returns {"latent/fd_squeezenet1_1": mean over pairs, "latent/fd_squeezenet1_1/cat2dog": of one pair, ...}.
    For each mode there are the Frechet distance of the translations to the target's real images in `space`,
    the LPIPS diversity over the translations of an image (lpips_squeeze or lpips_alex), and the style
    reconstruction error (style_error), see `measure_pair`. Images are resized as in training.

    Args:
        data: source images and references, a folder or a zip with a sub-folder per domain.
        space: feature space of the distances.
        real_data: the real images, None for those of `data`; published figures use the training images.
        lpips: measures diversity, None leaves it out.
        num_outputs: translations of each source.
        num_sources: number of sources of each domain, drawn from `seed`; None for all.
        seed: of sources, latents and references.
        modes: where styles come from, some of MODES.
        processes: those that share the images; all of them must call this.
        progress: shows the images that this process measures.
        cautioned: called with each warning about too few images, see `cautions`.
        real_statistics: cache of the real images' statistics, which are added if missing; pass the same one
            for several models of the same data.
        cache_dir: folder for these statistics, None for no cache.


    Raises:
        ValueError: for an unknown mode, other domains than the model's, and fewer than 2 outputs with
            `lpips`; see also `DomainImages`.
    """
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise ValueError(f"unknown mode {unknown[0]!r}: expected some of {', '.join(MODES)}")
    if num_outputs < (1 if lpips is None else 2) or num_sources == 0 or not modes:
        raise ValueError(
            f"got {num_outputs} outputs of {num_sources} sources by {', '.join(modes) or 'nothing'}: "
            "expected one or more of each, and two outputs for LPIPS"
        )
    device = torch.device(device)
    for network in (*networks, *(() if lpips is None else (lpips,))):
        network.to(device)
    images = _domain_images(data, networks)
    real_images = images if real_data is None else _domain_images(real_data, networks)
    sources = {name: _choose(count, num_sources, name, seed) for name, count in images.counts.items()}
    pairs = list(itertools.permutations(networks.spec.domains, 2))

    def share(count: int) -> int:
        return sum(map(len, processes.batches(count, batch_size)))

    num_images = sum(share(len(sources[source])) for source, _ in pairs) * num_outputs * len(modes)
    known = {} if real_statistics is None else real_statistics
    key = (space.name, networks.spec.img_size)
    if key not in known:
        num_images += sum(map(share, real_images.counts.values()))
    results: dict[str, float] = {}
    with progress(num_images, title) as bar:
        if key not in known:
            known[key] = {
                name: _real_statistics(
                    real_images,
                    name,
                    space,
                    batch_size=batch_size,
                    processes=processes,
                    done=bar.update,
                    cache_dir=cache_dir,
                )
                for name in networks.spec.domains
            }
        fewest = min(map(len, sources.values())) * num_outputs, min(one.count for one in known[key].values())
        for sentence in cautions(("fid",), *fewest, space.dim, kid=False):
            cautioned(f"{space.name}, per pair of domains: {sentence}")
        translator = _Translator(networks, images, num_outputs, seed, device)
        for mode in modes:
            if mode == "reference":
                translator.encode_references(batch_size, processes)
            measured = {
                (source, target): measure_pair(
                    functools.partial(translator.load, source, sources[source]),
                    len(sources[source]),
                    functools.partial(translator.codes, mode, source, target),
                    translator.translate,
                    functools.partial(translator.encode, target),
                    space,
                    diversity=None if lpips is None else lpips.diversity,
                    batch_size=batch_size,
                    processes=processes,
                    done=bar.update,
                )
                for source, target in pairs
            }
            lpips_name = "lpips" if lpips is None else f"lpips_{lpips.network}"
            values = summarize_pairs(measured, known[key], space, lpips_name=lpips_name)
            results |= {f"{mode}/{name}": value for name, value in values.items()}
    return results


def _real_statistics(
    images: DomainImages,
    domain: str,
    space: FeatureSpace,
    *,
    batch_size: int,
    processes: Processes,
    done: Callable[[int], object],
    cache_dir: Path | None,
) -> GaussianStatistics:
    """Statistics of the images of a domain, from the cache if it has them."""
    count = images.counts[domain]
    measured = False

    def measure() -> GaussianStatistics:
        nonlocal measured
        measured = True
        load = functools.partial(_load, images, domain)
        return measure_set(load, count, space, batch_size=batch_size, processes=processes, done=done).gaussian

    if cache_dir is None or space.fingerprint is None:
        return measure()
    statistics = load_or_measure(
        STATISTICS,
        measure,
        space,
        content_hash=_content_hash(images, domain),
        cache_dir=cache_dir,
        processes=processes,
    )
    if not measured:
        done(sum(map(len, processes.batches(count, batch_size))))
    return statistics


def _content_hash(images: DomainImages, domain: str) -> str:
    """SHA-256 over the size of the images and the files of a domain, in order."""
    digest = hashlib.sha256(f"domain resized to {images.img_size}".encode())
    for name in images.names[images.domains.index(domain)]:
        try:
            data = images.files.read_bytes(name)
        except ImageError as error:  # reported when the image is loaded
            data = str(error).encode()
        digest.update(f"{len(data)} ".encode() + data)
    return digest.hexdigest()


class _Translator:
    """The functions that `measure_pair` calls: images of a domain, style codes, translations, their codes."""

    def __init__(
        self, networks: StarGANv2, images: DomainImages, num_outputs: int, seed: int, device: torch.device
    ) -> None:
        self.networks, self.images, self.device = networks, images, device
        self.num_outputs, self.seed = num_outputs, seed
        self._references: dict[str, Tensor] = {}  # codes [R,style_dim] of all images of a domain

    def load(self, domain: str, chosen: Tensor, indices: Tensor) -> Tensor:
        """Indices [n] into the chosen images of a domain -> [n,3,S,S] in [-1,1]."""
        pixels = torch.stack(_load(self.images, domain, chosen[indices])).to(self.device)
        return pixels.float() / 127.5 - 1

    def translate(self, sources: Tensor, codes: Tensor) -> Tensor:
        """[n,3,S,S], codes [n,K,D] -> [n,K,3,S,S]; each source is encoded once for all its styles."""
        G, (n, count) = self.networks.G, codes.shape[:2]
        return G.stylize(G.content(sources).repeat(count), codes.flatten(0, 1)).unflatten(0, (n, count))

    def encode(self, domain: str, images: Tensor) -> Tensor:
        """[n,3,S,S] in [-1,1] -> their style codes in the domain [n,D]."""
        return self.networks.style_encoder(images, self._numbers(domain, len(images)))

    def encode_references(self, batch_size: int, processes: Processes) -> None:
        """Encode all images of all domains, on every process."""
        for domain, count in self.images.counts.items():
            codes = torch.zeros(count, self.networks.spec.style_dim, device=self.device)
            for indices in processes.batches(count, batch_size):
                codes[indices] = self.encode(domain, self.load(domain, torch.arange(count), indices))
            self._references[domain] = processes.total(codes)

    def codes(self, mode: str, source: str, target: str, indices: Tensor) -> Tensor:
        """Style codes in the target domain for the outputs of source images, indices [n] -> [n,K,D]."""
        spec = self.networks.spec
        pair = spec.domain_index(source), spec.domain_index(target)
        if mode == "reference":
            bank = self._references[target]
            which = output_references(
                self.seed, pair, indices, num_outputs=self.num_outputs, num_references=len(bank)
            )
            return bank[which.to(self.device)]
        z = output_latents(self.seed, pair, indices, num_outputs=self.num_outputs, latent_dim=spec.latent_dim)
        flat = z.flatten(0, 1).to(self.device)
        return self.networks.mapping(flat, self._numbers(target, len(flat))).unflatten(0, z.shape[:2])

    def _numbers(self, domain: str, count: int) -> Tensor:
        return torch.full((count,), self.networks.spec.domain_index(domain), device=self.device)


def _domain_images(path: str | Path, networks: StarGANv2) -> DomainImages:
    """The images of a data set with the model's domains, neither cropped nor flipped."""
    images = DomainImages(
        path, img_size=networks.spec.img_size, crop_prob=0, mirror=False, cache_mb=_CACHE_MB
    )
    if set(images.domains) != set(networks.spec.domains):
        raise ValueError(
            f"{path} has the domains {', '.join(images.domains)}, but the model translates between "
            f"{', '.join(networks.spec.domains)}: name the sub-folders after its domains"
        )
    return images


def _load(images: DomainImages, domain: str, indices: Tensor) -> list[Tensor]:
    """Images of a domain, uint8 [3,S,S] each."""
    number = images.domains.index(domain)
    return [images.image(number, index) for index in indices.tolist()]


def _choose(count: int, wanted: int | None, domain: str, seed: int) -> Tensor:
    """Indices of a domain's images to translate, int64 [n]."""
    if wanted is None or wanted >= count:
        return torch.arange(count)
    order = draw(seed, f"sources of {domain}", 0).permutation(count)
    return torch.from_numpy(np.sort(order[:wanted]))
