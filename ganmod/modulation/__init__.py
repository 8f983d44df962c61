"""Modulations of a convolution by a style: AdaIN, weight demodulation, AdaConv, and custom ones."""

from ganmod.modulation.adaconv import AdaConv, AdaConvParams
from ganmod.modulation.adain import AdaIN, AdaINParams
from ganmod.modulation.base import Modulation, StyleSpec
from ganmod.modulation.din import DynamicInstanceNorm
from ganmod.modulation.learned_styles.cin import ConditionalInstanceNorm
from ganmod.modulation.learned_styles.stylebank import StyleBank
from ganmod.modulation.modulated_conv import ModulatedConv2d
from ganmod.modulation.registry import (
    ModulationInfo,
    check_plugins,
    create_modulation,
    describe_plugins,
    list_modulations,
    modulation_info,
    modulation_per_resolution,
    modulations_for,
    options_per_modulation,
    register_modulation,
)
from ganmod.modulation.transforms.match_moments import MatchMoments
from ganmod.modulation.transforms.style_decorator import StyleDecorator
from ganmod.modulation.transforms.style_swap import StyleSwap
from ganmod.modulation.transforms.wct import WCT
from ganmod.modulation.weight_demod import WeightDemod, WeightDemodParams

__all__ = [
    "WCT",
    "AdaConv",
    "AdaConvParams",
    "AdaIN",
    "AdaINParams",
    "ConditionalInstanceNorm",
    "DynamicInstanceNorm",
    "MatchMoments",
    "ModulatedConv2d",
    "Modulation",
    "ModulationInfo",
    "StyleBank",
    "StyleDecorator",
    "StyleSpec",
    "StyleSwap",
    "WeightDemod",
    "WeightDemodParams",
    "check_plugins",
    "create_modulation",
    "describe_plugins",
    "list_modulations",
    "modulation_info",
    "modulation_per_resolution",
    "modulations_for",
    "options_per_modulation",
    "register_modulation",
]
