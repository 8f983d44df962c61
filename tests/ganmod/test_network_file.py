"""If this fails, a model file of a few kilobytes takes all memory, never ends, or ends in a traceback."""

from __future__ import annotations

import copy
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_generator import tiny_generator
from tiny_starganv2 import tiny_spec
from tiny_style_model import make
from torch import Tensor, nn

import ganmod
import style_transfer
from ganmod.io.model_file import ModelFile, ModelFileError, read_model_file, save_model_file
from ganmod.modulation import AdaIN, register_modulation, registry
from ganmod.network_file import build_to_fit
from ganmod.starganv2 import Generator, MappingNetwork, StyleEncoder, load_starganv2
from ganmod.starganv2.starganv2_file import StarGANv2, save_starganv2
from ganmod.stylegan2.stylegan2_file import save_stylegan2

LOADERS: dict[str, tuple[str, Callable[[Path], Any]]] = {  # section of the configuration, loader
    "stylegan2": ("generator", ganmod.load),
    "starganv2": ("networks", load_starganv2),
    "style": ("model", style_transfer.load),
    "residual": ("model", style_transfer.load),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFile]:
    """A small model file of every kind, conditional and lifted where there is such a thing."""
    folder = tmp_path_factory.mktemp("models")
    lifted = {"modulation": "adaconv", "style_lift": "per_layer", "descriptor_dim": 4, "c_dim": 2}
    save_stylegan2(folder / "stylegan2", G_ema=tiny_generator(**lifted))
    spec = tiny_spec()
    save_starganv2(folder / "starganv2", StarGANv2(Generator(spec), MappingNetwork(spec), StyleEncoder(spec)))
    make("adaconv").save(folder / "style")
    make("residual-adaconv").save(folder / "residual")
    return {name: read_model_file(folder / name) for name in LOADERS}


def load_changed(files: dict[str, ModelFile], kind: str, changes: dict[str, Any], path: Path) -> Any:
    file = files[kind]
    config = copy.deepcopy(file.config)
    config[LOADERS[kind][0]] |= changes
    save_model_file(path, file.tensors, kind=file.kind, config=config)
    return LOADERS[kind][1](path)


HUGE = 2**31 - 1
SIZES = {
    "stylegan2": ("z_dim", "w_dim", "c_dim", "img_channels", "mapping_layers", "descriptor_dim"),
    "starganv2": ("latent_dim", "hidden_dim", "style_dim", "img_channels"),
    "style": ("style_dim", "descriptor_size"),
    "residual": ("style_dim", "descriptor_size", "num_blocks"),
}
LARGE: list[tuple[str, dict[str, Any]]] = [
    *((kind, {name: HUGE}) for kind, names in SIZES.items() for name in names),
    ("stylegan2", {"descriptor_size": 10**6}),
    ("stylegan2", {"img_resolution": 2**30}),
    ("stylegan2", {"channel_base": 2**30, "channel_max": 2**30}),
    ("stylegan2", {"modulation_options": {"kernel_size": 10**9 + 1}}),
    ("stylegan2", {"modulation_options": {"kernel_budget": 10**12}, "channel_max": 10**9}),
    ("starganv2", {"img_size": 2**30}),
    ("starganv2", {"channel_base": 2**30, "channel_max": 2**30}),
    ("starganv2", {"domains": [str(i) for i in range(1_000_000)]}),
    ("style", {"style_image_size": 2**30}),
    ("style", {"encoder_widths": [2**30] * 4}),
    ("residual", {"width": 2**30}),
]


@pytest.mark.parametrize(("kind", "changes"), LARGE, ids=lambda value: str(value)[:60])
def test_a_configuration_larger_than_its_tensors_is_refused_at_once(
    files: dict[str, ModelFile], kind: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError) as refused:
        load_changed(files, kind, changes, tmp_path / "m.safetensors")
    assert str(refused.value).startswith(str(tmp_path / "m.safetensors"))
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 700
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB; a list of domains


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("stylegan2", {"z_dim": 16.0}, "z_dim: Input should be a valid integer, got 16.0"),
        ("stylegan2", {"z_dim": True}, "z_dim: Input should be a valid integer, got True"),
        ("stylegan2", {"z_dim": 2**31}, "z_dim: Input should be less than 2147483648"),
        ("stylegan2", {"w_dim": -1}, "w_dim: Input should be greater than 0, got -1"),
        ("stylegan2", {"img_resolution": 2**40}, "img_resolution"),
        ("stylegan2", {"img_resolution": [16, 24, 8]}, "img_resolution"),
        ("stylegan2", {"modulation": 5}, "modulation: Input should be a valid string, got 5"),
        ("style", {"modulation": ["adain"]}, r"modulation: Input should be a valid string, got \['adain'\]"),
        (
            "starganv2",
            {"modulation_options": [1]},
            r"modulation_options: Input should be an object, got",
        ),
        (
            "style",
            {"modulation_options": {"kernel_size": "3"}},
            "option kernel_size: Input should be",
        ),
        ("stylegan2", {"mapping_lr_mul": None}, "mapping_lr_mul: Input should be a valid number, got None"),
        ("stylegan2", {"conv_clamp": "x" * 10**6}, "conv_clamp: Input should be a valid number, got 'xxx"),
        ("starganv2", {"domains": [1, 2]}, "domains.0: Input should be a valid string, got 1"),
        ("starganv2", {"img_size": "32"}, "img_size: Input should be a valid integer, got '32'"),
        ("style", {"encoder_widths": [4, 4]}, "encoder_widths.2: Field required"),
        ("style", {"encoder_widths": 4}, "encoder_widths: Input should be a valid array, got 4"),
        ("style", {"styel_dim": 4}, r"has no field 'styel_dim' \(did you mean 'style_dim'\?\)"),
    ],
)
def test_a_value_of_another_type_or_range_is_named(
    files: dict[str, ModelFile], kind: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=message) as refused:
        load_changed(files, kind, changes, tmp_path / "m.safetensors")
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("section", [None, 3, [1], "text", {}])
def test_a_section_that_is_no_dictionary_is_refused(
    files: dict[str, ModelFile], kind: str, section: Any, tmp_path: Path
) -> None:
    file = files[kind]
    config = {**file.config, LOADERS[kind][0]: section}
    save_model_file(tmp_path / "m.safetensors", file.tensors, kind=file.kind, config=config)
    with pytest.raises(ModelFileError, match="its configuration describes no"):
        LOADERS[kind][1](tmp_path / "m.safetensors")


@pytest.mark.parametrize("kind", LOADERS)
def test_an_unchanged_file_loads_with_its_values(files: dict[str, ModelFile], kind: str, tmp_path: Path):
    loaded = load_changed(files, kind, {}, tmp_path / "m.safetensors")
    networks = loaded._asdict() if kind == "starganv2" else {"G": loaded}
    prefix = {"stylegan2": "G_ema.", "starganv2": "G_ema."}.get(kind, "")
    held = {k.removeprefix(prefix): v for k, v in files[kind].tensors.items() if k.startswith(prefix)}
    state = networks["G"].state_dict()
    assert state.keys() == held.keys()
    assert all(torch.equal(state[name], held[name]) for name in held)


class Table(nn.Module):
    """A network that reads values while it is built, which a build without memory could not."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.register_buffer("steps", torch.arange(4) * 2, persistent=False)
        self.total = int(self.steps.sum())


def test_a_network_is_built_once_with_its_values() -> None:
    made: list[Tensor] = []

    def make_table() -> Table:
        table = Table(3)
        made.append(table.steps)
        return table

    built = build_to_fit(make_table, {"weight": torch.tensor([1.0, 2.0, 3.0])}, source="f")
    assert built.weight.tolist() == [1.0, 2.0, 3.0]
    assert (built.total, built.steps.tolist(), len(made)) == (12, [0, 2, 4, 6], 1)
    with pytest.raises(ModelFileError, match=r"f: .* larger network than its tensors fill \(1 tensors of 3"):
        build_to_fit(lambda: Table(1 << 40), {"weight": torch.zeros(3)}, source="f")
    with pytest.raises(ModelFileError, match=r"weight \(got \[3\], expected \[4\]\)"):
        build_to_fit(lambda: Table(4), {"weight": torch.zeros(3)}, source="f")


@pytest.mark.parametrize("kind", ["stylegan2", "starganv2", "style"])
def test_a_file_names_the_module_of_a_modulation_of_ones_own(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    ours = type("HalfAdaIN", (AdaIN,), {"__module__": "my_module"})
    register_modulation("half_adain")(ours)
    path = tmp_path / "m.safetensors"
    if kind == "stylegan2":
        save_stylegan2(path, G_ema=tiny_generator(modulation="half_adain"))
    elif kind == "starganv2":
        spec = tiny_spec(modulation="half_adain")
        save_starganv2(path, StarGANv2(Generator(spec), MappingNetwork(spec), StyleEncoder(spec)))
    else:
        make("half_adain").save(path)
    assert read_model_file(path).config["plugins"] == {"half_adain": "my_module"}
    LOADERS[kind][1](path)
    del registry._REGISTRY["half_adain"]
    with pytest.raises(ValueError, match=r"made with the modulation 'half_adain' .* add --plugin my_module"):
        LOADERS[kind][1](path)
    assert "my_module" not in sys.modules


def test_files_of_built_in_modulations_name_no_module(files: dict[str, ModelFile]) -> None:
    assert not [name for name, file in files.items() if "plugins" in file.config]
