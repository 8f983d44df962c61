"""The StyleGAN2 generator: mapping and synthesis."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ganmod.stylegan2.mapping import MappingNetwork
from ganmod.stylegan2.spec import GeneratorSpec
from ganmod.stylegan2.synthesis import NoiseMode, SynthesisNetwork


class Generator(nn.Module):
    """z [N,z_dim], c [N,c_dim] -> image [N,img_channels,H,W], about [-1,1] once trained (Karras et al. 2020).

    img_resolution: (height, width). The networks can be called separately: `G.synthesis(G.mapping(z, c))`.
    """

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.z_dim, self.c_dim, self.w_dim = spec.z_dim, spec.c_dim, spec.w_dim
        self.img_resolution, self.img_channels = spec.img_size, spec.img_channels
        self.synthesis = SynthesisNetwork(spec)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(
            spec.z_dim,
            spec.c_dim,
            spec.w_dim,
            num_ws=self.num_ws,
            num_layers=spec.mapping_layers,
            lr_mul=spec.mapping_lr_mul,
            w_avg_beta=spec.w_avg_beta,
        )

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: NoiseMode = "random",
        noise: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """truncation_*: see `MappingNetwork`; noise_mode, noise: see `SynthesisNetwork`."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, noise_mode=noise_mode, noise=noise)
