"""If this fails, official StyleGAN2 weights give other images here than in the code that trained them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import foreign_stylegan2 as foreign
import pytest
import torch
from stylegan2_formulas import discriminate, generate

import ganmod
from ganmod.io.model_file import read_model_file
from ganmod.stylegan2 import Discriminator, Generator
from ganmod.stylegan2.importers.ada import import_stylegan2_ada
from ganmod.stylegan2.importers.foreign_weights import ImportStyleGAN2Error, channel_limits


@pytest.fixture(autouse=True)
def _official(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign.install_official_modules(monkeypatch)
    torch.manual_seed(0)


def write(path: Path, **networks: foreign.Layer | None) -> Path:
    path.write_bytes(foreign.ada_pickle(networks))
    return path


def inputs(c_dim: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    z = torch.randn(3, foreign.Z_DIM, dtype=torch.float64)
    return z, torch.eye(c_dim, dtype=torch.float64)[torch.tensor([0, 2, 1])] if c_dim else None


def assert_same_images(G: Generator, layer: foreign.Layer, **options: Any) -> None:
    z, c = inputs(G.c_dim)
    G = G.double()
    for psi, cutoff, noise in ((1.0, None, True), (0.7, None, True), (0.4, 2, False)):
        expected = generate(layer.tensors(), z, c, psi=psi, cutoff=cutoff, noise=noise, **options)
        out = G(z, c, truncation_psi=psi, truncation_cutoff=cutoff, noise_mode="const" if noise else "none")
        assert expected.std() > 0.1  # the tolerance below means something
        # What is left: the constant under demodulation's root, and float32 in which biases are stored.
        torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("mapping_layers", [2, 8])
@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_imported_generators_give_the_published_images(
    tmp_path: Path, architecture: str, c_dim: int, mapping_layers: int
):
    options = {"architecture": architecture, "c_dim": c_dim, "mapping_layers": mapping_layers}
    G, G_ema = foreign.generator(**options), foreign.generator(**options)  # type: ignore[arg-type]
    found = import_stylegan2_ada(write(tmp_path / "n.pkl", G=G, D=None, G_ema=G_ema))
    assert found.G is not None
    assert found.D is None
    assert_same_images(found.G_ema, G_ema, architecture=architecture)
    assert_same_images(found.G, G, architecture=architecture)
    spec = found.G_ema.spec
    assert (spec.architecture, spec.c_dim, spec.mapping_layers) == (architecture, c_dim, mapping_layers)
    assert (spec.img_size, spec.channel_base, spec.channel_max) == ((16, 16), 128, 12)


def test_clamping_is_kept_and_half_precision_noted(tmp_path: Path):
    layer = foreign.generator(clamp=0.9, num_half=2)
    G = import_stylegan2_ada(write(tmp_path / "n.pkl", G_ema=layer)).G_ema
    assert (G.spec.conv_clamp, G.spec.num_half_res, G.spec.half_dtype) == (0.9, 2, "float16")
    exact = Generator(replace(G.spec, num_half_res=0))
    exact.load_state_dict(G.state_dict())
    assert_same_images(exact, layer, clamp=0.9)


def test_the_mapping_networks_learning_rate_is_kept(tmp_path: Path):
    layer = foreign.generator(mapping_lr=0.03)
    G = import_stylegan2_ada(write(tmp_path / "n.pkl", G_ema=layer)).G_ema
    assert G.spec.mapping_lr_mul == 0.03
    assert_same_images(G, layer, mapping_lr=0.03)


def test_a_network_built_without_noise_has_none(tmp_path: Path):
    layer = foreign.generator(use_noise=False)
    G = import_stylegan2_ada(write(tmp_path / "n.pkl", G_ema=layer)).G_ema
    assert_same_images(G, layer)
    z, _ = inputs(0)
    assert torch.equal(G(z, noise_mode="random"), G(z, noise_mode="none"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"architecture": "skip", "c_dim": 3},
        {"architecture": "orig", "clamp": 0.5},
        {"c_dim": 3, "mapping_lr": 0.1, "freeze": True},
        {"group_size": None},
    ],
)
@pytest.mark.parametrize("batch", [1, 3, 4])
def test_imported_discriminators_give_the_published_logits(
    tmp_path: Path, options: dict[str, Any], batch: int
):
    layer = foreign.discriminator(**options)
    path = write(tmp_path / "n.pkl", G=None, D=layer, G_ema=foreign.generator())
    found = import_stylegan2_ada(path)
    assert found.D is not None
    assert found.G is None
    img = torch.randn(batch, 3, 16, 16, dtype=torch.float64)
    c = torch.eye(3, dtype=torch.float64)[torch.arange(batch) % 3] if layer.attributes["c_dim"] else None
    wanted = {key: options[key] for key in ("architecture", "clamp", "mapping_lr") if key in options}
    expected = discriminate(layer.tensors(), img, c, **wanted)
    torch.testing.assert_close(found.D.double()(img, c), expected, rtol=0, atol=1e-6)


def test_a_larger_batch_is_one_group_where_the_file_says_so(tmp_path: Path):
    layer = foreign.discriminator(group_size=None)
    D = import_stylegan2_ada(write(tmp_path / "n.pkl", D=layer, G_ema=foreign.generator())).D
    img = torch.randn(10, 3, 16, 16, dtype=torch.float64)
    assert D is not None
    torch.testing.assert_close(D.double()(img), discriminate(layer.tensors(), img), rtol=0, atol=1e-6)


def test_the_model_file_holds_all_three_networks(tmp_path: Path, ganmod_command):
    G_ema = foreign.generator(c_dim=3)
    path = write(
        tmp_path / "n.pkl", G=foreign.generator(c_dim=3), D=foreign.discriminator(c_dim=3), G_ema=G_ema
    )
    ended = ganmod_command("import", "stylegan2-ada", path, "-o", tmp_path / "m.safetensors")
    assert ended.code == 0, ended.err
    assert "16 x 16, 3 classes; parameters: G_ema 0.0" in ended.out
    assert_same_images(ganmod.load(tmp_path / "m.safetensors"), G_ema)
    tensors = read_model_file(tmp_path / "m.safetensors", expect_kind="stylegan2").tensors
    found = import_stylegan2_ada(path)
    for prefix, network in (("G_ema", found.G_ema), ("G", found.G), ("D", found.D)):
        assert network is not None
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensors[f"{prefix}.{name}"], tensor)


def test_the_generator_alone_can_be_imported(tmp_path: Path, ganmod_command):
    path = write(
        tmp_path / "n.pkl",
        G=foreign.generator(),
        D=foreign.Layer("ProjectedDiscriminator"),
        G_ema=foreign.generator(),
    )
    with pytest.raises(ImportStyleGAN2Error, match="D is a ProjectedDiscriminator without 'b4'"):
        import_stylegan2_ada(path)
    out = tmp_path / "m.safetensors"
    ended = ganmod_command("import", "stylegan2-ada", path, "-o", out, "--generator-only")
    assert ended.code == 0, ended.err
    tensors = read_model_file(out).tensors
    assert {name.split(".")[0] for name in tensors} == {"G_ema"}


def test_weights_are_stored_as_they_are_so_that_another_modulation_can_take_them(tmp_path: Path):
    layer = foreign.generator()
    G = import_stylegan2_ada(write(tmp_path / "n.pkl", G_ema=layer)).G_ema
    weight = layer.layer("synthesis.b8.conv0").parameters["weight"]
    assert torch.equal(G.state_dict()["synthesis.b8.conv0.conv.weight"], weight)


def stylegan3() -> foreign.Layer:
    layer = foreign.generator()
    layer.children["synthesis"].children = {
        "input": foreign.Layer("SynthesisInput"),
        "L0_36_512": foreign.Layer("SynthesisLayer"),
    }
    return layer


def change(path: str, **attributes: Any) -> foreign.Layer:
    layer = foreign.generator()
    layer.layer(path).attributes |= attributes
    return layer


def remove(path: str, name: str) -> foreign.Layer:
    layer = foreign.generator()
    del layer.layer(path).parameters[name]
    return layer


def set_filter(taps: list[float]) -> foreign.Layer:
    layer = foreign.generator()
    row = torch.tensor(taps) / sum(taps)
    layer.layer("synthesis.b8").buffers["resample_filter"] = row[:, None] * row
    return layer


def set_tensor(path: str, name: str, tensor: torch.Tensor) -> foreign.Layer:
    layer = foreign.generator()
    layer.layer(path).parameters[name] = tensor
    return layer


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (stylegan3, r"G_ema is a StyleGAN3 generator \(configuration T or R\).*--cfg=stylegan2"),
        (lambda: foreign.Layer("UNet"), "G_ema is a UNet without 'synthesis', not a network of StyleGAN2"),
        (lambda: change("synthesis.b8.conv0", activation="relu"), "b8.conv0 has the activation 'relu'"),
        (lambda: change("mapping", w_avg_beta=None), "keeps no mean w"),
        (lambda: change("mapping.fc0", bias_gain="large"), "fc0 has bias_gain = 'large', expected float"),
        (lambda: remove("synthesis.b8.conv1", "weight"), "missing: synthesis.b8.conv1.conv.weight"),
        (lambda: remove("synthesis.b8.conv1", "bias"), "conv1 is a SynthesisLayer without 'bias'"),
        (lambda: set_filter([1.0, 2, 1]), "resamples with another filter than 1, 3, 3, 1"),
        (lambda: set_filter([1.0, 2, 2, 1]), "resamples with another filter than 1, 3, 3, 1"),
        (
            lambda: set_tensor("mapping.fc1", "weight", torch.zeros(3, 3)),
            r"shape: mapping.layers.1.weight \(\[3, 3\], expected \[14, 14\]\)",
        ),
        (
            lambda: set_tensor("synthesis.b16", "attention", torch.zeros(3)),
            "unknown: synthesis.b16.attention",
        ),
        (
            lambda: set_tensor("synthesis.b8.conv1", "bias", torch.zeros(11)),
            "has 12 at 4, 11 at 8, 8 at 16 channels, expected min",
        ),
    ],
)
def test_other_networks_are_refused_with_the_reason(tmp_path: Path, make, words: str, ganmod_command):
    path = write(tmp_path / "n.pkl", G_ema=make())
    with pytest.raises(ImportStyleGAN2Error, match=words) as error:
        import_stylegan2_ada(path)
    assert str(error.value).startswith(str(path))
    ended = ganmod_command("import", "stylegan2-ada", path, "-o", tmp_path / "m.safetensors")
    assert ended.code == 1
    assert str(path) in ended.err
    assert not (tmp_path / "m.safetensors").exists()


def test_a_missing_averaged_generator_is_told(tmp_path: Path):
    with pytest.raises(ImportStyleGAN2Error, match="no averaged generator G_ema, only G, D; give"):
        import_stylegan2_ada(write(tmp_path / "n.pkl", G=foreign.generator(), D=foreign.discriminator()))


def test_channel_limits_follow_the_published_rule_where_it_fits():
    published = (32768, 512)
    assert channel_limits({4: 512, 32: 512}, published=published, source="x") == published
    assert channel_limits({4: 512, 64: 512, 128: 256}, published=published, source="x") == published
    base, limit = channel_limits({4: 512, 32: 512, 64: 256, 128: 128}, published=published, source="x")
    assert (base, limit) == (16384, 512)
    for res in range(2, 11):  # any pair gives its own widths back
        widths = {2**i: min(1000 // 2**i, 48) for i in range(2, res + 1) if 1000 // 2**i}
        base, limit = channel_limits(widths, published=published, source="x")
        assert {r: min(base // r, limit) for r in widths} == widths
    with pytest.raises(ImportStyleGAN2Error, match="x has 8 at 4, 16 at 8 channels"):
        channel_limits({4: 8, 8: 16}, published=published, source="x")


def test_imported_networks_are_ready_for_use(tmp_path: Path):
    path = write(
        tmp_path / "n.pkl", G=foreign.generator(), D=foreign.discriminator(), G_ema=foreign.generator()
    )
    found = import_stylegan2_ada(path)
    assert isinstance(found.D, Discriminator)
    for network in (found.G_ema, found.G, found.D):
        assert network is not None
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
