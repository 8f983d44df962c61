"""If this fails, a GPU job trains a released model on other crops than a CPU would, or writes no model."""

from __future__ import annotations

import json
import math
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import style_transfer
from configs.style import StyleData
from ganmod.data import style_colors
from ganmod.features.vgg import NORMALISED_INDEX, VGGFeatures, load_features
from ganmod.io.images import to_tensor, write_image
from style_transfer.procedural_styles import builtin_contents, draw_style_set
from training.style.build import build_loss_network, build_model

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # where scripts find their parts

import released_models
from released import packing
from released.crops import (
    ColorChange,
    ImageStore,
    PairDrawer,
    Squares,
    change_colors,
    cut,
    draw_color_changes,
    draw_squares,
    resize_weights,
)
from released.fitting import fit
from released.inputs import read_images, read_inputs
from released.job_run import configure, run_job
from released.jobs import JOBS, MAX_OUTPUT_BYTES, MAX_TRAINED, MB, time_factor
from released.timed_loop import FlatGradients, JobOptions

CPU = torch.device("cpu")
TINY = {
    "model.encoder": "ganmod-slim",
    "loss.network": "ganmod-slim",
    "loss.second_network": "ganmod-slim",
    "model.width": 16,
    "model.num_blocks": 2,
    "model.style_dim": 8,
    "model.modulation_options": {"kernel_budget": 32},
    "model.style_image_size": 64,
    "data.crop": 32,
    "data.short_side": 64,
    "schedule.batch_size": 4,
}


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def drawer(contents: list, styles: list, *, seed: int = 0, **data: Any) -> PairDrawer:
    options = {"crop": 16, "short_side": 64, "enlarge": 2.0, **data}
    return PairDrawer(contents, styles, StyleData(**options), seed=seed, device=CPU)


def flat(value: int, height: int = 40, width: int = 56) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


# Crops


def test_a_square_is_resized_as_pillow_does_it() -> None:
    # Without blacks and whites, which Pillow cuts off between its two passes.
    images = [noise(0, 50, 70) // 3 + 80, noise(1, 64, 40) // 3 + 80]
    store = ImageStore.of(images, CPU)
    where = [(0, 50, 0, 20), (1, 33, 31, 7), (0, 10, 40, 60), (1, 24, 5, 0)]
    squares = Squares(*torch.tensor(where).T)
    found = cut(store, squares, 24, longest=50)
    for crop, (i, side, top, left) in zip(found, where, strict=True):
        square = Image.fromarray(images[i][top : top + side, left : left + side])
        expected = to_tensor(np.asarray(square.resize((24, 24), Image.Resampling.BICUBIC)))
        # Pillow rounds between its two passes.
        torch.testing.assert_close(crop, expected, rtol=0, atol=1.6 / 255)
    assert torch.equal(found[3], to_tensor(images[1][5:29, :24]))  # of the right size: nothing is changed


def test_weights_sum_to_one_and_read_nothing_beyond_the_square() -> None:
    side = torch.tensor([1, 7, 16, 40])
    weights = resize_weights(side, 16, 40)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(4, 16))
    for one, pixels in zip(weights, side.tolist(), strict=True):
        assert not one[:, pixels:].any()
    torch.testing.assert_close(weights[2, :, :16], torch.eye(16))


def test_sides_lie_within_bounds_evenly_on_a_logarithmic_scale() -> None:
    store = ImageStore.of([flat(0, 64, 100), flat(0, 90, 24), flat(0, 6, 9)], CPU)
    generator = torch.Generator().manual_seed(0)
    image = torch.arange(3).repeat(4000)
    squares = draw_squares(store, image, crop=16, enlarge=2, generator=generator)
    assert bool((squares.top >= 0).all())
    assert bool((squares.left >= 0).all())
    assert bool((squares.top + squares.side <= store.heights[image]).all())
    assert bool((squares.left + squares.side <= store.widths[image]).all())
    for i, low, high in ((0, 8, 64), (1, 8, 24), (2, 6, 6)):
        sides = squares.side[image == i].double()
        assert (sides.min(), sides.max()) == (low, high)
        middle = math.sqrt(low * high)  # half of the sides are smaller
        assert float(sides.median()) == pytest.approx(middle, rel=0.08)
    # The corners reach everything: the first and the last possible position.
    free = (store.widths[image] - squares.side)[image == 0]
    assert float((squares.left[image == 0] / free.clamp_min(1)).mean()) == pytest.approx(0.5, abs=0.02)

    even = draw_squares(store, image, crop=16, enlarge=1, generator=generator).side
    for i, low, high in ((0, 16, 64), (1, 16, 24), (2, 6, 6)):
        sides = even[image == i].double()
        assert (sides.min(), sides.max()) == (low, high)
        assert float(sides.mean()) == pytest.approx((low + high) / 2, rel=0.03)


def test_crops_of_constant_images_are_constant_and_come_from_their_own_pools() -> None:
    pairs = drawer([flat(10), flat(20)], [flat(130), flat(140), flat(150)], photo_styles=0.3)
    content, style = pairs(400)
    assert content.shape == style.shape == (400, 3, 16, 16)
    for images in (content, style):
        torch.testing.assert_close(images, images.mean(dim=(1, 2, 3), keepdim=True).expand_as(images))
    levels = [(x[:, 0, 0, 0] * 255).round().int() for x in (content, style)]
    assert set(levels[0].tolist()) == {10, 20}
    assert set(levels[1].tolist()) == {10, 20, 130, 140, 150}
    assert float((levels[1] < 100).float().mean()) == pytest.approx(0.3, abs=0.08)


def test_half_of_the_crops_are_flipped() -> None:
    ramp = np.tile((np.arange(100, dtype=np.uint8) * 2)[None, :, None], (64, 1, 3))
    content, style = drawer([ramp], [ramp])(300)
    for images in (content, style):
        falling = (images[:, 0, 8].diff(dim=1) < 0).all(dim=1)
        rising = (images[:, 0, 8].diff(dim=1) > 0).all(dim=1)
        assert bool((falling ^ rising).all())
        assert 110 < int(falling.sum()) < 190
    upright = drawer([ramp], [ramp], flip=False)(100)[0]
    assert bool((upright[:, 0, 8].diff(dim=1) > 0).all())


def test_equal_seeds_give_equal_pairs() -> None:
    images = [noise(i, 40, 50) for i in range(4)]
    options: dict = {"change_colors": 0.5, "photo_styles": 0.2, "same_image": 0.2}
    first, second = (drawer(images, images, seed=3, **options) for _ in range(2))
    for _ in range(3):
        for a, b in zip(first(5), second(5), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(drawer(images, images, seed=4, **options)(5)[0], first(5)[0])


def test_same_images_are_the_contents_untouched() -> None:
    images = [noise(i, 40, 50) for i in range(3)]
    content, style = drawer(images, images, same_image=0.4, change_colors=1.0)(300)
    same = (content == style).all(dim=3).all(dim=2).all(dim=1)
    assert float(same.float().mean()) == pytest.approx(0.4, abs=0.08)


class FixedRandom:
    """A random generator with fixed numbers, for `style_colors.change_colors`."""

    def __init__(self, integer: int, randoms: list[float], uniforms: list[float]) -> None:
        self.integer, self.randoms, self.uniforms = integer, randoms, uniforms

    def integers(self, _: int) -> int:
        return self.integer

    def random(self) -> float:
        return self.randoms.pop(0)

    def uniform(self, *_: float) -> float:
        return self.uniforms.pop(0)


@pytest.mark.parametrize(
    ("saturation", "angle", "inverted"), [(0.0, 0.0, False), (2.5, 1.2, True), (0.7, -2.6, False)]
)
def test_colours_change_as_in_training_on_a_cpu(saturation: float, angle: float, inverted: bool) -> None:
    image = noise(0, 8, 9)
    change = ColorChange(
        *(torch.tensor([x]) for x in (saturation, angle, math.exp(0.4), -0.1)), torch.tensor([inverted])
    )
    found = change_colors(to_tensor(image)[None], change)[0]
    uniforms = [saturation] if saturation else []
    uniforms += [angle] if angle else []
    rng = FixedRandom(
        1 if saturation else 0, [0.0 if angle else 1.0, 0.0 if inverted else 1.0], [*uniforms, 0.4, -0.1]
    )
    expected = style_colors.change_colors(image, rng)  # type: ignore[arg-type]
    torch.testing.assert_close(found, to_tensor(expected), rtol=0, atol=0.51 / 255)


def test_colour_changes_have_the_documented_shares_and_ranges() -> None:
    change = draw_color_changes(8000, torch.Generator().manual_seed(0))
    s = change.saturation
    assert float((s == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float((s > 1.6).float().mean()) == pytest.approx(0.25 * 1.4 / 1.5, abs=0.02)
    assert (float(s[s > 0].min()) >= 0.3) == (float(s.max()) <= 3) == True  # noqa: E712
    assert float((change.angle == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(change.angle.abs().max()) <= math.pi
    assert float(change.contrast.log().mean()) == pytest.approx(0.2, abs=0.02)
    assert float(change.brightness.abs().max()) <= 0.25
    assert float(change.inverted.float().mean()) == pytest.approx(1 / 7, abs=0.02)


# Steps


def test_the_learning_rate_rises_stays_and_falls_to_nothing() -> None:
    assert [time_factor(x) for x in (0.5, 0.7, 0.85, 1.0)] == pytest.approx([1, 1, 0.5, 0])
    assert time_factor(0) == pytest.approx(0.05)
    assert time_factor(0.01) == pytest.approx(0.55)
    assert time_factor(1.5) == 0


def test_gradients_in_one_tensor_are_clipped_together_and_left_out_when_not_finite() -> None:
    a = torch.nn.Parameter(torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last))
    b = torch.nn.Parameter(torch.randn(5))
    x, y = torch.randn_like(a), torch.randn(5)
    gradients = FlatGradients([a, b])
    ((a * x).sum() + (b * y).sum()).backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.stride() == a.stride()
    torch.testing.assert_close(a.grad, x)
    norm = torch.cat([x.flatten(), y]).norm()
    assert bool(gradients.clip_(0.5))
    torch.testing.assert_close(a.grad, x * (0.5 / norm))
    torch.testing.assert_close(b.grad, y * (0.5 / norm))
    gradients.flat[3] = math.inf
    assert not bool(gradients.clip_(0.5))
    assert not gradients.flat.any()


# Packing


def write_images(folder: Path, *, count: int = 6) -> dict[str, Path]:
    """Photos and drawn styles, 4 held-out ones of each among them, and a list of pairs."""
    photos = list(builtin_contents().values())
    contents, styles = folder / "photos", folder / "paintings"
    for i in range(count):
        photo = photos[i % len(photos)]
        write_image(contents / f"c{i}.jpg", np.ascontiguousarray(photo[i * 9 : i * 9 + 150, : 170 + i]))
    for i, (_, image) in enumerate(draw_style_set(count, 128)):
        write_image(styles / f"s{i}.jpg", image)
    pairs = folder / "pairs.json"
    names = {"contents": ["c0.jpg", "c1.jpg", "c2.jpg"], "styles": ["s5.jpg", "s1.jpg", "s0.jpg"]}
    pairs.write_text(json.dumps(names))
    exclude = folder / "exclude.txt"
    exclude.write_text("c3.jpg\n")
    return {"content": contents, "style": styles, "pairs": pairs, "exclude": exclude}


def pack(made: dict[str, Path], out: Path, *more: str) -> None:
    options = [f"--{name}={path}" for name, path in made.items()]
    released_models.main(["pack", *options, "--every=2", "--short-side=96", f"--out={out}", *more])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    pack(write_images(folder), folder / "inputs")
    return folder / "inputs"


def test_packed_images_are_small_and_held_out_ones_are_kept_apart(inputs: Path) -> None:
    packed = read_inputs(inputs)
    assert (packed.contents, packed.styles) == (["c0.jpg", "c2.jpg"], ["s5.jpg", "s0.jpg"])
    contents, styles = read_images(inputs / "contents.zip"), read_images(inputs / "styles.zip")
    assert (len(contents), len(styles)) == (3, 4)  # without c0, c2, c3; without s0, s5
    assert [min(image.shape[:2]) for image in contents + styles] == [96] * 7
    with zipfile.ZipFile(inputs / "evaluation.zip") as archive:
        assert sorted(archive.namelist()) == [
            "contents/c0.jpg",
            "contents/c2.jpg",
            "styles/s0.jpg",
            "styles/s5.jpg",
        ]


def test_quality_gives_way_to_the_limit_and_then_the_parts_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_images(tmp_path)
    pack(made, tmp_path / "large")
    large = read_inputs(tmp_path / "large").about
    assert (large["short_side"], large["quality"]) == (96, 90)
    bytes_of = {name: sum(f.stat().st_size for f in (tmp_path / name).rglob("*")) for name in ("large",)}
    pack(made, tmp_path / "small", f"--limit-mb={(bytes_of['large'] - 3000) / MB}")
    small = read_inputs(tmp_path / "small").about
    assert (small["short_side"], small["quality"]) != (96, 90)
    assert sum(f.stat().st_size for f in (tmp_path / "small").rglob("*")) < bytes_of["large"] - 3000
    with pytest.raises(SystemExit, match=r"need more than 0.03 MB: contents.zip 0\.\d\d MB, evalua"):
        pack(made, tmp_path / "none", "--limit-mb=0.03")
    (tmp_path / "pairs.json").write_text(json.dumps({"contents": ["gone.jpg"], "styles": []}))
    with pytest.raises(SystemExit, match=r"gone.jpg: in .*pairs.json, but in none of the folders"):
        pack(made, tmp_path / "none")


def _by_index(network: VGGFeatures) -> dict[int, torch.nn.Conv2d]:
    return {index: network.convs[name] for name, index in NORMALISED_INDEX.items()}  # type: ignore[misc]


def test_vgg19_is_packed_in_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {}
    network = VGGFeatures()
    for name, module in {0: network.conv0, **_by_index(network)}.items():
        torch.nn.init.kaiming_normal_(module.weight)
        state |= {f"{name}.{part}": getattr(module, part).detach() for part in ("weight", "bias")}
    torch.save(state, tmp_path / "vgg_normalised.pth")
    packing.compact_vgg19(str(tmp_path / "vgg_normalised.pth"), tmp_path / "vgg19.pth")
    assert (tmp_path / "vgg19.pth").stat().st_size < 7.1 * MB
    full, half = (load_features("vgg19", path=tmp_path / f) for f in ("vgg_normalised.pth", "vgg19.pth"))
    x = torch.rand(1, 3, 48, 48)
    for name, expected in full.normalized(x).items():
        torch.testing.assert_close(half.normalized(x)[name], expected, rtol=0, atol=0.01)


def test_a_missing_package_without_a_wheel_is_named(tmp_path: Path) -> None:
    assert released_models.missing_packages({"json": "json", "no_such_module": "no-such-package"}) == [
        "no-such-package"
    ]
    with pytest.raises(ValueError, match=r"not to be installed from .*: no-such-package. Pack them"):
        released_models.install_wheels(tmp_path, ["no-such-package"])


def test_a_wheel_of_the_folder_is_found_once_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    info = "packed_here-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "packed_here-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("packed_here.py", "ANSWER = 7\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: packed-here\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    assert released_models.missing_packages({"packed_here": "packed-here"}) == ["packed-here"]
    released_models.install_wheels(tmp_path, ["packed-here"])
    import packed_here  # type: ignore[import-not-found]

    assert packed_here.ANSWER == 7


# Jobs


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS.keys())
def test_every_job_fits_its_limits(job: Any, inputs: Path) -> None:
    config = configure(job, inputs, read_inputs(inputs), {})
    assert (config.data.crop, config.schedule.batch_size) == (256, 8)
    widths = {"vgg19": (64, 128, 256, 512), "ganmod-slim": (16, 32, 64, 128)}[config.model.encoder]
    assert config.loss.second_network in (None, "vgg19")
    spec = style_transfer.ModelSpec.from_options(
        config.model, encoder=config.model.encoder, encoder_widths=widths
    )
    model = style_transfer.StyleTransferModel(spec, VGGFeatures(widths))
    trained = sum(p.numel() for p in model.trainable().values())
    assert 2_000_000 < trained <= MAX_TRAINED
    stored = trained + (
        0 if config.model.encoder == "vgg19" else sum(p.numel() for p in model.encoder.parameters())
    )
    assert 2 * stored < MAX_OUTPUT_BYTES - 500_000


def run_tiny(inputs: Path, out: Path, device: torch.device, **options: Any) -> tuple[Any, dict[str, Any]]:
    options = {"steps": 25, "minutes": 5.0, "reserve": 0.0, "log": lambda _: None, **options}
    init = options.pop("init", None)
    given = JobOptions(begin=time.monotonic(), changes=TINY, device=device, **options)
    return run_job(JOBS["style-adaconv-slim"], inputs, out, given, init=init)


def check_outputs(model: style_transfer.StyleTransferModel, record: dict[str, Any], out: Path) -> None:
    files = {path.name: path.stat().st_size for path in out.iterdir()}
    assert set(files) == {f"style-adaconv-slim.{suffix}" for suffix in ("safetensors", "json", "jpg")}
    assert max(files.values()) < MAX_OUTPUT_BYTES
    assert files["style-adaconv-slim.jpg"] < MB
    assert json.loads((out / "style-adaconv-slim.json").read_text()) == record
    assert record["training"]["images"] == 4 * record["training"]["steps"]
    assert record["training_loss"]["after"]["total"] < record["training_loss"]["before"]["total"]
    (figures,) = record["evaluation"]["networks"].values()
    assert record["evaluation"]["pairs"] == 4
    assert figures["content"] > 0
    assert 0 < figures["style"] < 1.5 * figures["photo_style"]

    loaded = style_transfer.load(out / "style-adaconv-slim.safetensors")
    content, style = torch.rand(3, 64, 72), torch.rand(3, 64, 64)
    expected = model.cpu().stylize(content, style)
    torch.testing.assert_close(loaded.stylize(content, style), expected, rtol=0, atol=0.02)
    assert (loaded.stylize(content, style) - expected).abs().mean() < 2e-3


def test_a_job_writes_a_model_that_loads_its_figures_and_its_pictures(inputs: Path, tmp_path: Path) -> None:
    model, record = run_tiny(inputs, tmp_path / "first", CPU)
    check_outputs(model, record, tmp_path / "first")
    assert record["training"]["steps"] == 25

    file = tmp_path / "first" / "style-adaconv-slim.safetensors"
    again, second = run_tiny(inputs, tmp_path / "second", CPU, init=file, steps=1)
    before, after = second["training_loss"]["before"], record["training_loss"]["after"]
    assert before["total"] == pytest.approx(after["total"], rel=1e-2)
    assert (
        build_model(configure(JOBS["style-adaconv-slim"], inputs, read_inputs(inputs), TINY)).spec
        == again.spec
    )


def test_training_ends_at_its_deadline(inputs: Path) -> None:
    config = configure(JOBS["style-adaconv-slim"], inputs, read_inputs(inputs), TINY)
    model = build_model(config)
    network = build_loss_network(config.loss, model)
    images = read_images(inputs / "styles.zip")
    pairs = PairDrawer(images, images, config.data, seed=0, device=CPU)
    lines: list[str] = []
    begin = time.monotonic()
    _, trained, is_graph = fit(config, model, network, pairs, deadline=begin + 3, log=lines.append)
    assert 3 <= time.monotonic() - begin < 6
    assert not is_graph
    assert trained.images == 4 * trained.steps > 0
    assert f"step {trained.steps}  {trained.steps / trained.seconds:.2f}"[:-1] in lines[-1]
    fit(config, model, network, pairs, deadline=time.monotonic() + 600, steps=4, log=lines.append)
    assert lines[-1].endswith("lr x 0.83")  # of the last step, after 3/4 of the way: (1 - 3/4) / 0.3
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ValueError, match=r"no time is left for training: give more --minutes"):
        fit(config, model, network, pairs, deadline=time.monotonic())
    with pytest.raises(ValueError, match=r"steps is 0, expected 1 or more"):
        fit(config, model, network, pairs, deadline=time.monotonic() + 9, steps=0)


def test_the_command_trains_what_its_options_say(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [f"--set={key}={json.dumps(value)}" for key, value in TINY.items()]
    command = ["style-adaconv-slim", f"--inputs={inputs}", f"--out={tmp_path}", "--device=cpu", *changes]
    released_models.main([*command, "--minutes=5", "--steps=2"])
    record = json.loads((tmp_path / "style-adaconv-slim.json").read_text())
    assert record["training"]["steps"] == 2
    assert record["configuration"]["model"]["width"] == 16
    assert "steps/s" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"no folder of inputs .*: write one with `released_models.py pack`"):
        released_models.main([*command[:1], f"--inputs={tmp_path}", f"--out={tmp_path}"])
    with pytest.raises(
        SystemExit, match=r"trains [\d,]+ numbers and is stored in [\d.]+ MB, allowed are 7,000,000"
    ):
        released_models.main([*command, "--set=model.style_dim=2048"])


@pytest.mark.gpu
@pytest.mark.parametrize("graph", [True, False])
def test_a_job_on_cuda(inputs: Path, tmp_path: Path, graph: bool) -> None:
    model, record = run_tiny(inputs, tmp_path, torch.device("cuda"), steps=60, graph=graph)
    assert record["training"]["graph"] == graph
    check_outputs(model, record, tmp_path)
