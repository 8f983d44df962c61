"""StarGAN v2 with any modulation: networks and the specification they are built from."""

from ganmod.starganv2.domain_networks import Discriminator, MappingNetwork, StyleEncoder
from ganmod.starganv2.generator import Generator, high_pass
from ganmod.starganv2.spec import StarGANv2Spec
from ganmod.starganv2.starganv2_file import StarGANv2, load_starganv2, save_starganv2

__all__ = [
    "Discriminator",
    "Generator",
    "MappingNetwork",
    "StarGANv2",
    "StarGANv2Spec",
    "StyleEncoder",
    "high_pass",
    "load_starganv2",
    "save_starganv2",
]
