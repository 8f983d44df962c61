"""Specification of the four networks of StarGAN v2: plain values that JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from configs.problems import shortened
from configs.sections import Positive
from configs.starganv2 import StarGANv2Model
from ganmod.network_spec import NetworkSpec

MIN_IMG_SIZE = 16

_BOTTLENECK_SIZE = 16  # pixels of the generator's coarsest level; half of it with the high-pass filter
_LAST_FEATURES = 4  # pixels of the last features of style encoder and discriminator


@dataclass(frozen=True, kw_only=True)
class StarGANv2Spec(NetworkSpec, StarGANv2Model):
    """Everything needed to build the networks again: the configuration's options and the data's domains.

    domains: names, two or more. For the other fields see `configs.starganv2.StarGANv2Model`.
    """

    domains: tuple[str, ...]
    img_channels: Positive = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "domains", tuple(self.domains))
        if len(self.domains) < 2 or len(set(self.domains)) < len(self.domains):
            named = shortened(list(self.domains))
            raise ValueError(f"domains are {named}, expected two or more different names")
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
        """The number of a domain; raises ValueError for an unknown name."""
        if name not in self.domains:
            raise ValueError(f"unknown domain {name!r}: expected one of {', '.join(self.domains)}")
        return self.domains.index(name)

    def _widths(self, halvings: int) -> list[int]:
        first = max(self.channel_base // self.img_size, 1)
        return [min(first << i, self.channel_max) for i in range(halvings + 1)]
