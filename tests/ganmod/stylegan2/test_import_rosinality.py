"""If this fails, rosinality's StyleGAN2 checkpoints give other images here than where they were trained."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import foreign_stylegan2 as foreign
import pytest
import torch
from foreign_checkpoints import discriminator_state, generator_state
from stylegan2_formulas import discriminate, generate, map_latents
from torch import Tensor

import ganmod
from ganmod.io.pickles.restricted_unpickle import UnsafePickleError
from ganmod.stylegan2.importers.foreign_weights import ImportStyleGAN2Error
from ganmod.stylegan2.importers.rosinality import import_stylegan2_rosinality


@pytest.fixture(autouse=True)
def _one_latent_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "Z_DIM", foreign.W_DIM)
    torch.manual_seed(0)


def write(path: Path, content: object, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def latents(num: int = 3) -> Tensor:
    return torch.randn(num, foreign.W_DIM, dtype=torch.float64)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("mapping_layers", [2, 8])
def test_a_training_checkpoint_gives_the_published_images(tmp_path: Path, mapping_layers: int, zipped: bool):
    G_ema, G = (foreign.generator(mapping_layers=mapping_layers) for _ in range(2))
    D = foreign.discriminator()
    content = {
        "g": generator_state(G),
        "d": discriminator_state(D),
        "g_ema": generator_state(G_ema),
        "g_optim": {"state": {0: {"step": 3}}, "param_groups": [{"betas": (0.0, 0.99)}]},
        "args": argparse.Namespace(size=16, latent=foreign.W_DIM, path="images"),
        "ada_aug_p": 0.1,
    }
    found = import_stylegan2_rosinality(write(tmp_path / "c.pt", content, zipped=zipped))
    z = latents()
    for network, layer in ((found.G_ema, G_ema), (found.G, G)):
        assert network is not None
        expected = generate(layer.tensors(), z)
        assert expected.std() > 0.1  # the tolerance below means something
        out = network.double()(z, noise_mode="const")
        torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)
    assert found.D is not None
    img = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    expected = discriminate(D.tensors(), img)
    torch.testing.assert_close(found.D.double()(img), expected, rtol=0, atol=1e-6)
    assert found.G_ema.spec.conv_clamp is None
    assert found.G_ema.spec.mapping_layers == mapping_layers


@pytest.mark.parametrize("shape", [(foreign.W_DIM,), (1, foreign.W_DIM)])
def test_the_mean_latent_of_the_file_truncates(tmp_path: Path, shape: tuple[int, ...], ganmod_command):
    layer = foreign.generator()
    mean = layer.layer("mapping").buffers["w_avg"].reshape(shape)
    path = write(tmp_path / "c.pt", {"g_ema": generator_state(layer), "latent_avg": mean})
    ended = ganmod_command("import", "stylegan2-rosinality", path, "-o", tmp_path / "m.safetensors")
    assert ended.code == 0, ended.err
    assert "16 x 16, unconditional; parameters: G_ema 0.0" in ended.out
    G = ganmod.load(tmp_path / "m.safetensors").double()
    z = latents()
    expected = generate(layer.tensors(), z, psi=0.6)
    out = G(z, truncation_psi=0.6, noise_mode="const")
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)


def test_a_missing_mean_latent_is_computed_and_always_the_same(tmp_path: Path):
    layer = foreign.generator()
    path = write(tmp_path / "c.pt", {"g_ema": generator_state(layer)})
    w_avg = import_stylegan2_rosinality(path).G_ema.mapping.w_avg
    assert torch.equal(import_stylegan2_rosinality(path).G_ema.mapping.w_avg, w_avg)
    w = map_latents(layer.tensors(), latents(20_000), None)
    # Both means have an error of std / sqrt(number of latents).
    error = (w_avg - w.mean(dim=0)).abs() / (w.std(dim=0) * (1 / 20_000 + 1 / 16_384) ** 0.5)
    assert error.max() < 4.5


def test_a_checkpoint_without_noise_images_gets_some(tmp_path: Path):
    state = generator_state(foreign.generator())
    bare = {name: tensor for name, tensor in state.items() if not name.startswith("noises.")}
    found = [import_stylegan2_rosinality(write(tmp_path / "c.pt", {"g_ema": bare})).G_ema for _ in range(2)]
    first, second = (G.synthesis.layers[4].noise_const for G in found)
    assert torch.equal(first, second)
    assert 0.8 < first.std() < 1.2


def test_the_generator_alone_can_be_imported(tmp_path: Path):
    state = generator_state(foreign.generator())
    path = write(tmp_path / "c.pt", {"g_ema": state, "g": state, "d": {}})
    found = import_stylegan2_rosinality(path, generator_only=True)
    assert (found.G, found.D) == (None, None)


def swagan() -> dict[str, Any]:
    state: dict[str, Any] = generator_state(foreign.generator())
    state["to_rgbs.0.iwt.ll"] = torch.ones(2, 2)
    return {"g_ema": state}


def other_filter() -> dict[str, Any]:
    state = generator_state(foreign.generator())
    state["convs.0.conv.blur.kernel"] = torch.ones(4, 4)
    return {"g_ema": state}


def missing_bias() -> dict[str, Any]:
    state = generator_state(foreign.generator())
    del state["convs.2.activate.bias"]
    return {"g_ema": state}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: {"state_dict": {}, "epoch": 3}, "no averaged generator g_ema, only state_dict, epoch; give"),
        (lambda: [1, 2], "no averaged generator g_ema, only list; give"),
        (lambda: {"g_ema": {}}, "g_ema is not a network of rosinality.* its first tensors are none"),
        (lambda: {"g_ema": {"convs.0.conv.weight": torch.zeros([])}}, "g_ema is not a network of rosinality"),
        (swagan, r"unknown: to_rgbs\.0\.iwt\.ll"),
        (other_filter, "blur.kernel resamples with another filter"),
        (missing_bias, "g_ema is not a network of rosinality"),
        (
            lambda: {"g_ema": generator_state(foreign.generator()), "d": {"convs.0.0.weight": torch.ones(1)}},
            "c.pt: d is not a network of rosinality",
        ),
    ],
)
def test_other_checkpoints_are_refused_with_the_reason(tmp_path: Path, make, words: str, ganmod_command):
    path = write(tmp_path / "c.pt", make())
    with pytest.raises(ImportStyleGAN2Error, match=words) as error:
        import_stylegan2_rosinality(path)
    assert str(error.value).startswith(str(path))
    out = tmp_path / "m.safetensors"
    ended = ganmod_command("import", "stylegan2-rosinality", path, "-o", out)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert not out.exists()


def test_an_official_pickle_is_sent_to_its_own_importer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    foreign.install_official_modules(monkeypatch)
    path = tmp_path / "n.pkl"
    for protocol in (2, 4):
        path.write_bytes(foreign.ada_pickle({"G_ema": foreign.generator()}, protocol=protocol))
        with pytest.raises(ImportStyleGAN2Error, match="import it with `ganmod import stylegan2-ada`"):
            import_stylegan2_rosinality(path)


class Call:
    def __reduce__(self):
        return os.system, ("true",)


def test_code_in_a_checkpoint_is_refused(tmp_path: Path):
    content = {"g_ema": {}, "args": argparse.Namespace(hook=Call())}
    with pytest.raises(UnsafePickleError, match=r"asks for posix\.system"):
        import_stylegan2_rosinality(write(tmp_path / "c.pt", content))
