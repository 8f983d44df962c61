"""What the four networks of StarGAN v2 are built from: plain values that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log2
from typing import Any

from ganmod.network_spec import NetworkSpec

MIN_IMG_SIZE = 16

_BOTTLENECK_SIZE = 16  # pixels of the generator's coarsest level; half of it with the high-pass filter
_LAST_FEATURES = 4  # pixels of the features that style encoder and discriminator end with


@dataclass(frozen=True, kw_only=True)
class StarGANv2Spec(NetworkSpec):
    """Everything needed to build the networks again (Choi et al. 2020, appendix; defaults as published).

    domains: names, two or more. img_size: side in pixels, a power of two. Channels of the first level:
    channel_base / img_size, doubled at every halving of the image, at most channel_max. latent_dim: length
    of z; hidden_dim: width of the mapping network; style_dim: length of a style code. w_hpf: strength of the
    high-pass skip connections is 1 / w_hpf; 0 for a generator without them, whose decoder has ordinary skip
    connections instead. modulation: a registered name, or names by resolution, "adaconv@16-64,adain@128-";
    modulation_options: of the one modulation, or nested by name.
    """

    domains: tuple[str, ...]
    img_size: int = 256
    img_channels: int = 3
    latent_dim: int = 16
    hidden_dim: int = 512
    style_dim: int = 64
    channel_base: int = 2**14
    channel_max: int = 512
    w_hpf: float = 0.0
    modulation: str = "adain"
    modulation_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "domains", tuple(self.domains))
        if len(self.domains) < 2 or len(set(self.domains)) < len(self.domains):
            raise ValueError(f"domains are {list(self.domains)}, expected two or more different names")
        positive = ("img_channels", "latent_dim", "hidden_dim", "style_dim", "channel_base", "channel_max")
        self.check_at_least(1, *positive)
        self.check_at_least(0, "w_hpf")
        size = self.img_size
        if size < MIN_IMG_SIZE or size & (size - 1):
            below = max(1 << max(size, 1).bit_length() - 1, MIN_IMG_SIZE)
            raise ValueError(
                f"img_size is {size}, expected a power of two from {MIN_IMG_SIZE}: try {below} or {2 * below}"
            )

    @property
    def num_domains(self) -> int:
        return len(self.domains)

    def generator_widths(self) -> list[int]:
        """Channels of the generator's levels, fine to coarse; level i has img_size / 2^i pixels a side."""
        doublings = int(log2(self.img_size // _BOTTLENECK_SIZE)) + (self.w_hpf > 0)
        return self._widths(doublings)

    def encoder_widths(self) -> list[int]:
        """Channels of the levels of style encoder and discriminator, from the image to 4 x 4 pixels."""
        return self._widths(int(log2(self.img_size // _LAST_FEATURES)))

    def domain_index(self, name: str) -> int:
        """The number of a domain; ValueError with the known names for an unknown one."""
        if name not in self.domains:
            raise ValueError(f"unknown domain {name!r}: expected one of {', '.join(self.domains)}")
        return self.domains.index(name)

    def _widths(self, halvings: int) -> list[int]:
        first = max(self.channel_base // self.img_size, 1)
        return [min(first << i, self.channel_max) for i in range(halvings + 1)]
