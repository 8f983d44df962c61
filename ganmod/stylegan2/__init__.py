"""StyleGAN2 with any modulation: networks and the specifications they are built from."""

from ganmod.stylegan2.discriminator import Discriminator, minibatch_std
from ganmod.stylegan2.generator import Generator
from ganmod.stylegan2.mapping import MappingNetwork, normalize_2nd_moment, truncate
from ganmod.stylegan2.spec import DiscriminatorSpec, GeneratorSpec
from ganmod.stylegan2.synthesis import NoiseMode, SynthesisNetwork

__all__ = [
    "Discriminator",
    "DiscriminatorSpec",
    "Generator",
    "GeneratorSpec",
    "MappingNetwork",
    "NoiseMode",
    "SynthesisNetwork",
    "minibatch_std",
    "normalize_2nd_moment",
    "truncate",
]
