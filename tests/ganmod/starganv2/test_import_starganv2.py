"""If this fails, official StarGAN v2 checkpoints give other images here than where they were trained."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_checkpoints import DOMAINS, checkpoint, theirs, values
from tiny_starganv2 import draw, generate, mlp, trunk
from torch import Tensor

from ganmod.io.pickles.restricted_unpickle import UnsafePickleError
from ganmod.starganv2 import StyleEncoder, load_starganv2
from ganmod.starganv2.import_official import ImportStarGANv2Error, import_starganv2


def write(path: Path, content: object, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("prefix", "zipped"), [("", True), ("module.", False)])
def test_images_and_codes_are_the_published_ones(tmp_path: Path, prefix: str, zipped: bool):
    content, (G, mapping, encoder) = checkpoint(prefix=prefix)
    found = import_starganv2(write(tmp_path / "c.ckpt", content, zipped=zipped), domains=DOMAINS)
    networks = [network.double() for network in found.networks]
    x, s, z = draw(3, 3, 32, 32), draw(3, 5, seed=1), draw(3, 4, seed=2)
    domains = torch.tensor([2, 0, 1])
    close(networks[0](x, s), generate(G, x, s))
    shared = mlp(mapping, z, "shared", last_linear=False)
    codes = [mlp(mapping, shared, f"heads.{k}", last_linear=True) for k in range(3)]
    close(networks[1](z, domains), torch.stack([codes[k][i] for i, k in enumerate(domains.tolist())]))
    features = trunk(encoder, x).flatten(1)
    for i, k in enumerate(domains.tolist()):
        expected = features[i] @ encoder[f"heads.{k}.weight"].t() + encoder[f"heads.{k}.bias"]
        close(networks[2](x, domains)[i], expected)
    assert (found.networks.spec.domains, found.left_out) == (DOMAINS, ())


@pytest.mark.parametrize("held", [True, False], ids=["filter in the file", "no filter in the file"])
def test_a_generator_with_the_high_pass_filter(tmp_path: Path, held: bool):
    w_hpf = 0.5 if held else 1.0  # the published strength, where the file tells none
    content, (G, *_) = checkpoint(w_hpf=w_hpf, img_size=64)
    if not held:
        del content["generator"]["hpf.filter"]
    found = import_starganv2(write(tmp_path / "c.ckpt", content))
    assert (found.networks.spec.w_hpf, found.left_out) == (w_hpf, ("fan",))
    x, s = draw(2, 3, 64, 64), draw(2, 5, seed=1)
    masks = draw(2, 1, 32, 32).sigmoid(), draw(2, 1, 64, 64, seed=2).sigmoid()
    close(found.networks.G.double()(x, s, masks), generate(G, x, s, w_hpf=w_hpf, masks=masks))
    assert import_starganv2(tmp_path / "c.ckpt", w_hpf=2.0).networks.spec.w_hpf == 2


def test_widths_below_the_published_limit_keep_it(tmp_path: Path):
    # 6 and 12 channels in the generator, but 24 and 48 in the encoder: the limit is not the widest of G.
    content, _ = checkpoint(channel_max=512)
    spec = import_starganv2(write(tmp_path / "c.ckpt", content)).networks.spec
    assert (spec.channel_base, spec.channel_max) == (192, 512)
    assert spec.encoder_widths() == [6, 12, 24, 48]


def test_the_command_writes_a_model_that_translates(tmp_path: Path, ganmod_command: Callable):
    content, (G, *_) = checkpoint(w_hpf=1.0)
    path, out = write(tmp_path / "c.ckpt", content), tmp_path / "m.safetensors"
    ended = ganmod_command("import", "starganv2", path, "-o", out, "--domains", "cat, dog,wild")
    assert ended.code == 0, ended.err
    assert "32 x 32, domains cat, dog, wild, high-pass filter 1 / 1, parameters: G 0.0" in ended.out
    assert "left out: fan" in ended.out
    assert "note: the official images use masks" in ended.out
    model = load_starganv2(out)
    x, s = draw(1, 3, 32, 32), draw(1, 5, seed=1)
    close(model.G.double()(x, s), generate(G, x, s, w_hpf=1.0))
    plain = write(tmp_path / "p.ckpt", checkpoint()[0])
    ended = ganmod_command("import", "starganv2", plain, "-o", out)
    assert "domains 0, 1, 2, parameters" in ended.out
    assert "left out" not in ended.out


def remove(network: str, name: str) -> dict[str, Any]:
    content, _ = checkpoint()
    del content[network][name]
    return content


def other_depth() -> dict[str, Any]:
    content, _ = checkpoint()
    content["style_encoder"] = theirs(values(StyleEncoder, img_size=128), "style_encoder")
    return content


def other_number_of_domains() -> dict[str, Any]:
    content, _ = checkpoint()
    state = content["mapping_network"]
    content["mapping_network"] = {k: v for k, v in state.items() if not k.startswith("unshared.2")}
    return content


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: {"state_dict": {}, "epoch": 3}, "holds no generator, .*, only state_dict, epoch; give a"),
        (lambda: [1, 2], "only list; give"),
        (lambda: {"generator": {}, "mapping_network": {}, "style_encoder": {}}, "not those of clovaai"),
        (
            lambda: remove("generator", "decode.1.norm1.fc.bias"),
            r"generator: .*missing: decode\.1\.conv1\.mod",
        ),
        (lambda: remove("generator", "from_rgb.bias"), "not those of clovaai"),
        (other_depth, r"\(5 and 3 residual blocks and 3 domains"),
        (other_number_of_domains, "3 domains in style encoder and generator, 2 in the mapping network"),
    ],
)
def test_other_checkpoints_are_refused_with_the_reason(
    tmp_path: Path, make: Callable[[], object], words: str, ganmod_command: Callable
):
    path, out = write(tmp_path / "c.ckpt", make()), tmp_path / "m.safetensors"
    with pytest.raises(ImportStarGANv2Error, match=words) as error:
        import_starganv2(path)
    assert str(error.value).startswith(str(path))
    ended = ganmod_command("import", "starganv2", path, "-o", out)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert not out.exists()


def test_options_that_do_not_fit_are_refused(tmp_path: Path):
    path = write(tmp_path / "c.ckpt", checkpoint()[0])
    with pytest.raises(ImportStarGANv2Error, match="has 3 domains, but 2 names were given: a, b"):
        import_starganv2(path, domains=["a", "b"])
    with pytest.raises(ImportStarGANv2Error, match="without a high-pass filter: leave out w_hpf 1"):
        import_starganv2(path, w_hpf=1.0)
    with pytest.raises(ValueError, match="expected two or more different names"):
        import_starganv2(path, domains=["a", "b", "b"])


class Call:
    def __reduce__(self):
        return os.system, ("true",)


def test_code_in_a_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(UnsafePickleError, match=r"asks for posix\.system"):
        import_starganv2(write(tmp_path / "c.ckpt", {**checkpoint()[0], "fan": Call()}))
