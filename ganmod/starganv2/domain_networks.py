"""The networks of StarGAN v2 with an output per domain: mapping network, style encoder, discriminator."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import LRELU_SLOPE, widen
from ganmod.starganv2.generator import check_images
from ganmod.starganv2.residual_block import ResidualBlock, he_init
from ganmod.starganv2.spec import StarGANv2Spec

SHARED_LAYERS, DOMAIN_LAYERS = 4, 3  # hidden layers of the mapping network


def select_domain(outputs: Tensor, domains: Tensor) -> Tensor:
    """outputs [N,K,D] of all K domains, domains int64 [N] in 0..K-1 -> those of each sample's domain [N,D].

    Raises ValueError for domains of another shape or dtype; a number out of range is an IndexError on a CPU.
    """
    if domains.ndim != 1 or len(domains) != len(outputs) or domains.is_floating_point():
        raise ValueError(
            f"domains are {domains.dtype} {list(domains.shape)}, expected whole numbers [{len(outputs)}], "
            "one for each sample"
        )
    return outputs[torch.arange(len(outputs), device=outputs.device), domains]


class MappingNetwork(nn.Module):
    """z [N,latent_dim] from N(0,1), domains int64 [N] -> style codes [N,style_dim].

    Four layers shared by all domains, then three and a linear one for each (Choi et al. 2020, appendix).
    Always in float32 or wider.
    """

    def __init__(self, spec: StarGANv2Spec) -> None:
        super().__init__()
        self.spec = spec
        hidden = spec.hidden_dim
        self.shared = nn.Sequential(*_layers([spec.latent_dim] + [hidden] * SHARED_LAYERS))
        self.heads = nn.ModuleList(
            nn.Sequential(*_layers([hidden] * (DOMAIN_LAYERS + 1)), nn.Linear(hidden, spec.style_dim))
            for _ in spec.domains
        )
        he_init(self)

    def forward(self, z: Tensor, domains: Tensor) -> Tensor:
        """Raises ValueError for shapes that do not fit."""
        if z.ndim != 2 or z.shape[1] != self.spec.latent_dim:
            raise ValueError(f"z has shape {list(z.shape)}, expected [N, {self.spec.latent_dim}]")
        with torch.autocast(z.device.type, enabled=False):
            h = self.shared(z)  # [N,hidden_dim]
            codes = torch.stack([head(h) for head in self.heads], dim=1)  # [N,K,style_dim]
        return select_domain(codes, domains)


def _layers(widths: list[int]) -> list[nn.Module]:
    return [layer for i, o in itertools.pairwise(widths) for layer in (nn.Linear(i, o), nn.ReLU())]


class ImageTrunk(nn.Module):
    """img [N,3,S,S] -> features [N,C,1,1]: residual blocks down to 4 x 4, then a 4 x 4 convolution.

    The style encoder and the discriminator have one each.
    """

    def __init__(self, spec: StarGANv2Spec) -> None:
        super().__init__()
        widths = spec.encoder_widths()
        self.from_rgb = nn.Conv2d(spec.img_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(i, o, down=True) for i, o in itertools.pairwise(widths))
        self.last = nn.Conv2d(widths[-1], widths[-1], 4)
        self.out_channels = widths[-1]

    def forward(self, img: Tensor) -> Tensor:
        x = self.from_rgb(img)
        for block in self.blocks:
            x = block(x)
        x = self.last(F.leaky_relu(x, LRELU_SLOPE))  # [N,C,4,4] -> [N,C,1,1]
        return F.leaky_relu(x, LRELU_SLOPE)


class StyleEncoder(nn.Module):
    """img [N,3,S,S] in [-1,1], domains int64 [N] -> style codes [N,style_dim] (Choi et al. 2020)."""

    def __init__(self, spec: StarGANv2Spec) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = ImageTrunk(spec)
        self.heads = nn.ModuleList(nn.Linear(self.trunk.out_channels, spec.style_dim) for _ in spec.domains)
        he_init(self)

    def forward(self, img: Tensor, domains: Tensor) -> Tensor:
        """Raises ValueError for shapes that do not fit."""
        check_images(img, self.spec)
        features = self.trunk(img).flatten(1)  # [N,C]
        codes = torch.stack([head(features) for head in self.heads], dim=1)  # [N,K,style_dim]
        return select_domain(widen(codes), domains)


class Discriminator(nn.Module):
    """img [N,3,S,S] in [-1,1], domains int64 [N] -> logits [N,1], high for real (Choi et al. 2020, appendix).

    Each domain has a separate logit. Samples do not depend on one another.
    """

    def __init__(self, spec: StarGANv2Spec) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = ImageTrunk(spec)
        self.head = nn.Conv2d(self.trunk.out_channels, spec.num_domains, 1)
        he_init(self)

    def forward(self, img: Tensor, domains: Tensor) -> Tensor:
        """Raises ValueError for shapes that do not fit."""
        check_images(img, self.spec)
        logits = self.head(self.trunk(img)).flatten(2)  # [N,K,1]
        return select_domain(widen(logits), domains)
