"""If this fails, a network's description is not checked or kept, or a modulation's range is misread."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from configs.stylegan2 import StyleGAN2Model
from ganmod.modulation import modulation_per_resolution, options_per_modulation
from ganmod.stylegan2 import DiscriminatorSpec, GeneratorSpec


def sizes(spec: GeneratorSpec | DiscriminatorSpec) -> list[tuple[int, int, int]]:
    return [(level.height, level.width, level.resolution) for level in spec.levels()]


def test_a_square_image_has_the_published_levels_and_widths():
    levels = GeneratorSpec(img_resolution=256, channel_base=16384, num_half_res=4).levels()
    assert [level[:4] for level in levels] == [
        (4, 4, 4, 512),
        (8, 8, 8, 512),
        (16, 16, 16, 512),
        (32, 32, 32, 512),
        (64, 64, 64, 256),
        (128, 128, 128, 128),
        (256, 256, 256, 64),
    ]
    assert [level.half for level in levels] == [False] * 3 + [True] * 4


@pytest.mark.parametrize(
    ("num_half_res", "half"), [(0, "...."), (1, "...h"), (3, ".hhh"), (4, ".hhh"), (9, ".hhh")]
)
def test_the_coarsest_level_is_never_in_half_precision(num_half_res: int, half: str):
    levels = DiscriminatorSpec(img_resolution=32, num_half_res=num_half_res).levels()
    assert "".join("h" if level.half else "." for level in levels) == half


@pytest.mark.parametrize(
    ("image", "start", "expected"),
    [
        ((16, 24), None, [(4, 6, 4), (8, 12, 8), (16, 24, 16)]),
        ((24, 16), None, [(6, 4, 4), (12, 8, 8), (24, 16, 16)]),
        ((28, 28), None, [(7, 7, 8), (14, 14, 16), (28, 28, 32)]),
        ((32, 24), None, [(8, 6, 8), (16, 12, 16), (32, 24, 32)]),
        ((16, 64), None, [(4, 16, 8), (8, 32, 16), (16, 64, 32)]),
        ((32, 24), (4, 3), [(4, 3, 4), (8, 6, 8), (16, 12, 16), (32, 24, 32)]),
        ((20, 20), (10, 10), [(10, 10, 8), (20, 20, 16)]),
    ],
)
def test_other_images_are_halved_to_a_start_size(
    image: tuple[int, int], start: tuple[int, int] | None, expected: list[tuple[int, int, int]]
):
    assert sizes(GeneratorSpec(img_resolution=image, start_size=start)) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"img_resolution": 100},
            r"100 x 100 is not a power-of-two .*try 96 x 96 or 112 x 112 \(multiples of 16\)",
        ),
        ({"img_resolution": (64, 100)}, r"try 64 x 96 or 64 x 112"),
        ({"img_resolution": 4}, "img_resolution is 4 x 4, expected at least 8 pixels"),
        ({"img_resolution": 0}, "img_resolution is 0 x 0, expected at least 8 pixels"),
        (
            {"img_resolution": (64, 96), "start_size": (4, 4)},
            "64 x 96 is not start_size 4 x 4 .* 64 x 64 or 128",
        ),
        ({"img_resolution": 4, "start_size": (4, 4)}, r"try 8 x 8 or 16 x 16"),
        ({"img_resolution": 32, "start_size": (0, 4)}, r"start_size is \(0, 4\), expected a positive"),
        ({"img_resolution": 32, "architecture": "skipp"}, "'skipp', expected 'skip' or 'resnet' or 'orig'"),
        ({"img_resolution": 32, "half_dtype": "fp16"}, "'fp16', expected 'float16' or 'bfloat16'"),
        ({"img_resolution": 32, "channel_max": 0}, "channel_max is 0, expected a number from 1"),
        ({"img_resolution": 32, "c_dim": -1}, "c_dim is -1, expected a number from 0"),
        ({"img_resolution": 32, "conv_clamp": 0.0}, "conv_clamp is 0.0, expected a positive number or None"),
    ],
)
def test_what_cannot_be_built_is_explained(values: dict[str, Any], message: str):
    for spec in (GeneratorSpec, DiscriminatorSpec):
        with pytest.raises(ValueError, match=message):
            spec(**values)


def test_what_one_network_alone_cannot_have_is_explained():
    with pytest.raises(ValueError, match="style_lift is 'both', expected 'none' or 'shared' or 'per_layer'"):
        GeneratorSpec(img_resolution=32, style_lift="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="w_avg_beta is 1, expected a number from 0 to below 1"):
        GeneratorSpec(img_resolution=32, w_avg_beta=1)
    with pytest.raises(ValueError, match="mbstd_num_channels is 5, expected a divisor of the 512 channels"):
        DiscriminatorSpec(img_resolution=32, mbstd_num_channels=5)


@pytest.mark.parametrize(
    "spec",
    [
        GeneratorSpec(
            img_resolution=(16, 24),
            start_size=(4, 6),
            modulation="adaconv@4-8,weight_demod@16-",
            modulation_options={"adaconv": {"kernel_budget": 2048}},
            style_lift="shared",
            conv_clamp=None,
        ),
        DiscriminatorSpec(img_resolution=64, c_dim=3, mbstd_group_size=8),
    ],
    ids=["generator", "discriminator"],
)
def test_a_spec_survives_json(spec: GeneratorSpec | DiscriminatorSpec):
    text = json.dumps(spec.to_dict())
    assert type(spec).from_dict(json.loads(text)) == spec


def test_a_foreign_key_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"GeneratorSpec has no field 'zdim' \(did you mean 'z_dim'\?\)"):
        GeneratorSpec.from_dict({"img_resolution": 32, "zdim": 4})


RESOLUTIONS = [4, 8, 16, 32, 64]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("adaconv", "ccccc"),
        ("adaconv@4-32,weight_demod@64-", "ccccw"),
        (" adaconv@-16 , weight_demod@32-128", "cccww"),
        ("adain@8,adaconv@-4,weight_demod@16-", "cnwww"),
        ("adaconv@4-,weight_demod@128-", "ccccc"),
        ("adaconv@5-40,weight_demod@4,adain@64", "wcccn"),
    ],
)
def test_ranges_of_resolutions_are_read(text: str, expected: str):
    letters = {"c": "adaconv", "w": "weight_demod", "n": "adain"}
    assert list(modulation_per_resolution(text, RESOLUTIONS).items()) == [
        (resolution, letters[letter]) for resolution, letter in zip(RESOLUTIONS, expected, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adacnv", r"unknown modulation 'adacnv' \(did you mean 'adaconv'\?\)"),
        ("adacnv@4-", r"unknown modulation 'adacnv' \(did you mean 'adaconv'\?\)"),
        ("adaconv@4-,wd@128-", "unknown modulation 'wd'"),
        ("adaconv@4-16,weight_demod@16-", "names both adaconv and weight_demod for resolution 16"),
        (
            "adaconv@4-16,weight_demod@64-",
            r"leaves out resolution 32: .* has 4, 8, 16, 32, 64; .*weight_demod@32-",
        ),
        ("adaconv,weight_demod@64-", "'adaconv' is not NAME@FROM-TO"),
        ("adaconv@", "'adaconv@' is not NAME@FROM-TO"),
        ("adaconv@-", "'adaconv@-' is not NAME@FROM-TO"),
        ("adaconv@4to8", "'adaconv@4to8' is not NAME@FROM-TO"),
        ("adaconv@4-,", "'' is not NAME@FROM-TO"),
        ("", "unknown modulation ''"),
    ],
)
def test_a_range_that_cannot_be_used_is_explained(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        modulation_per_resolution(text, RESOLUTIONS)


def test_options_belong_to_one_modulation_or_are_nested():
    flat = {"normalize": "none"}
    assert options_per_modulation(flat, ["adaconv", "adaconv"]) == {"adaconv": flat}
    assert options_per_modulation({"adaconv": flat}, ["adaconv"]) == {"adaconv": flat}
    both = {"adaconv": flat, "weight_demod": {}}
    assert options_per_modulation({"adaconv": flat}, ["adaconv", "weight_demod"]) == both
    assert options_per_modulation({}, ["adaconv", "weight_demod"]) == {"adaconv": {}, "weight_demod": {}}
    with pytest.raises(
        ValueError, match=r"do not say which of adaconv, weight_demod they are for: nest them"
    ):
        options_per_modulation(flat, ["adaconv", "weight_demod"])


def test_a_spec_takes_its_own_options_of_the_section_and_no_others() -> None:
    section = StyleGAN2Model(z_dim=7, mapping_layers=3, channel_base=64, mbstd_group_size=2, conv_clamp=None)
    G = GeneratorSpec.from_options(section, img_resolution=16, num_half_res=1)
    D = DiscriminatorSpec.from_options(section, img_resolution=16, channel_max=5)
    assert (G.z_dim, G.mapping_layers, G.channel_base, G.conv_clamp, G.num_half_res) == (7, 3, 64, None, 1)
    assert (D.mbstd_group_size, D.channel_base, D.channel_max, D.num_half_res) == (2, 64, 5, 4)
    assert D.mapping_layers == 8  # of its class embedding, not of the generator


def test_an_option_is_declared_in_the_configuration_alone() -> None:
    """Except options with another default; a new option of G is one line."""
    declared = {option.name for option in fields(StyleGAN2Model)}
    repeated = {
        spec.__name__: sorted(set(spec.__annotations__) & declared)
        for spec in (GeneratorSpec.__base__, GeneratorSpec, DiscriminatorSpec)
    }
    assert repeated == {
        "_NetworkSpec": ["channel_base", "num_half_res"],
        "GeneratorSpec": ["mapping_layers"],
        "DiscriminatorSpec": ["mapping_layers", "mbstd_group_size"],
    }
