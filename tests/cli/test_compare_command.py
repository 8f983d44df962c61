"""If this fails, `ganmod compare` measures otherwise than `ganmod fid`, or prints an unfair table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_by
from run_folders import run_folder
from small_images import folder_of, picture
from tiny_generator import tiny_generator
from tiny_starganv2 import build

import style_transfer
from configs.schema import load_style_config
from ganmod.io.images import write_image
from ganmod.starganv2 import Generator as StarGenerator
from ganmod.starganv2 import MappingNetwork, StarGANv2, StyleEncoder, save_starganv2
from ganmod.stylegan2.stylegan2_file import read_stylegan2, save_stylegan2
from metrics.image_sets.sources import GeneratorImages
from metrics.images.spectrum import band_powers, power_spectrum
from metrics.progress import no_progress
from training.style.build import build_model

SPACE = """
import torch

def colours(images):
    x = images.float() / 255
    return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)

def greys(images):
    return images.float().mean(dim=1).flatten(1).sort(dim=1).values[:, ::40] / 255

def broken(images):
    return colours(images) / (images.float().mean() < 0)

colours.fingerprint = "colours 1"
"""
FEATURES = ("--features", "compared_colours:colours", "--draws", 2, "--num", 12)
FD = "fd_compared_colours_colours"


def reseeded(folder: Path, seed: int) -> Path:
    """Other weights in the run's model."""
    file = folder / "model-latest.safetensors"
    G = read_stylegan2(file).G
    generator = torch.Generator().manual_seed(seed)
    for parameter in G.parameters():
        parameter.data += (
            0.3 * torch.randn(parameter.shape, generator=generator) * parameter.std(correction=0)
        )
    save_stylegan2(file, G_ema=G, training={"nimg": 2000, "seconds": 20.0})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs a, b (seed 1), c (adaconv), wide (another batch); real/ of 16 images; a tiny style run."""
    root = tmp_path_factory.mktemp("compare")
    reseeded(run_folder(root / "a"), 0)
    reseeded(run_folder(root / "b", **{"runtime.seed": 1}), 1)
    reseeded(run_folder(root / "c", **{"model.modulation": "adaconv"}), 2)
    run_folder(root / "wide", **{"schedule.batch_size": 8, "model.modulation": "weight_demod"})
    for i in range(16):
        write_image(root / "real" / f"{i:02}.png", picture(i, height=16, width=24))
    folder_of(root / "photos", ["0.png", "1.png", "2.png"], height=40, width=48)
    folder_of(root / "paintings", [f"{i}.png" for i in range(6)], height=48, width=40)
    (root / "compared_colours.py").write_text(SPACE)
    changes = {"model.style_dim": 16, "model.descriptor_size": 1}
    torch.manual_seed(0)
    build_model(load_style_config("style-smoke", changes)).save(root / "style.safetensors")
    return root


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return folder


def compared(ganmod_command: Any, *arguments: object) -> dict[str, Any]:
    ended = ganmod_command("compare", *arguments, *FEATURES, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_rows_hold_what_fid_prints_of_the_same_seeds(here: Path, tmp_path: Path, ganmod_command):
    out = tmp_path / "report"
    metrics = ("--metrics", "fid,kid,pr,dc", "--trunc", 0.7)
    found = compared(ganmod_command, "a", "b", "c", "--data", "real", "-o", out, *metrics)
    assert [row["row"] for row in found["rows"]] == ["adain", "adaconv"]
    assert [row["training_seeds"] for row in found["rows"]] == [[0, 1], [0]]
    for row in found["rows"]:
        for number, run in enumerate(row["runs"]):
            for draw in range(2):
                arguments = [f"{run}/model-latest.safetensors", "real", "--num", 12, "--seed", 12 * draw]
                ended = ganmod_command("fid", *arguments, *metrics, *FEATURES[:2], "--json")
                expected = json.loads(ended.out)["metrics"]
                own = {name: value["draws"][number][draw] for name, value in row["metrics"].items()}
                kernel = [name for name in own if name.startswith("kd")]  # subsets of other seeds there
                assert {k: v for k, v in own.items() if k not in kernel} == pytest.approx(
                    {k: v for k, v in expected.items() if k not in kernel}, abs=1e-6
                )
    assert found["conditions"]["sampling_seeds"] == ["0-11", "12-23"]
    assert found["conditions"]["truncation_psi"] == 0.7
    assert found["rows"][0]["num_repeated"] == 0
    G = read_stylegan2("c/model-latest.safetensors").G
    fakes = torch.stack(GeneratorImages(G, 24, truncation_psi=0.7).load(torch.arange(24)))
    real = torch.stack([torch.from_numpy(picture(i, 16, 24)).permute(2, 0, 1) for i in range(16)])
    powers = [band_powers(power_spectrum([images])) for images in (fakes, real)]
    expected = {band: powers[0][band] / powers[1][band] for band in powers[0]}
    assert found["rows"][1]["power_to_real"] == pytest.approx(expected)

    assert json.loads((out / "comparison.json").read_text()) == found
    rows = list(csv.DictReader((out / "table.csv").open()))
    assert float(rows[1][FD]) == pytest.approx(found["rows"][1]["metrics"][FD]["mean"])
    names = sorted(path.name for path in (out / "runs").iterdir())
    assert names == [
        f"{n}{s}" for n in ("adaconv", "adain_seed_0", "adain_seed_1") for s in (".json", ".yaml")
    ]
    assert "/data/" not in (out / "runs" / "adaconv.yaml").read_text()
    page = (out / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<polyline") >= 3


def test_the_table_comes_last_with_its_facts_before_it(here: Path, tmp_path: Path, ganmod_command):
    ended = ganmod_command("compare", "c", "own=a", "--data", "real", "-o", tmp_path, *FEATURES)
    assert ended.code == 0, ended.err
    text, _, table = ended.out.partition("\n\n")
    rows = table.splitlines()
    assert rows[0].startswith("| row | training seeds | G parameters (M) | kimg |")
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| adaconv", "| own"]
    assert (tmp_path / "table.md").read_text().startswith(table.rstrip())
    for stated in (
        "No winner is marked: a row has 1 training seed,",
        "compared_colours:colours: 12 images: the Frechet distance is biased",
        "content_sha256 ",
        "truncation psi: 1",
        "spaces: compared_colours:colours colours 1",
        "versions: ganmod",
    ):
        assert stated in text


def test_unequal_runs_are_refused_or_marked(here: Path, tmp_path: Path, ganmod_command):
    arguments = ["compare", "a", "c", "wide", "--data", "real", "-o", tmp_path / "r", *FEATURES]
    ended = ganmod_command(*arguments)
    assert ended.code == 2
    assert "schedule.batch_size: a 4, c 4, wide 8" in ended.err
    assert not (tmp_path / "r").exists()
    ended = ganmod_command(*arguments, "--allow-differences")
    assert ended.code == 0, ended.err
    assert "Note 1: schedule.batch_size differs: a 4, c 4, wide 8" in ended.out
    assert "| weight_demod (note 1) |" in ended.out
    assert "| adain |" in ended.out


def test_model_files_alone_say_what_nobody_knows(here: Path, tmp_path: Path, ganmod_command):
    torch.manual_seed(5)
    save_stylegan2(tmp_path / "lone.safetensors", G_ema=tiny_generator(modulation="adaconv"))
    found = compared(
        ganmod_command, "a", tmp_path / "lone.safetensors", "--data", "real", "-o", tmp_path / "r"
    )
    assert found["not_known"]["training seed"] == ["lone"]
    assert "settings of schedule" in found["not_known"]
    assert found["rows"][1]["kimg"] is None
    assert "| adaconv |" in (tmp_path / "r" / "table.md").read_text()


def test_a_collapsed_generator_is_noted(here: Path, tmp_path: Path, ganmod_command):
    G = tiny_generator()
    for name, parameter in G.named_parameters():
        if name.endswith(("noise_strength", "affine.weight")):
            torch.nn.init.zeros_(parameter)
    for parameter in G.mapping.parameters():
        torch.nn.init.zeros_(parameter)
    save_stylegan2(tmp_path / "stuck.safetensors", G_ema=G)
    found = compared(ganmod_command, tmp_path / "stuck.safetensors", "--data", "real", "-o", tmp_path / "r")
    assert found["rows"][0]["num_repeated"] == 23
    assert any("23 of 24 samples equal another" in note for note in found["notes"])


def test_style_runs_are_measured_against_the_style_images(here: Path, tmp_path: Path, ganmod_command):
    arguments = ["style.safetensors", "--content", "photos", "--styles", "paintings", "--size", 32]
    arguments += ["-o", tmp_path, "--features", "compared_colours:colours", "--draws", 2, "--json"]
    ended = ganmod_command("compare", *arguments)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    (row,) = found["rows"]
    model = style_transfer.load("style.safetensors")
    assert row["parameters"] == sum(p.numel() for p in model.trainable().values())
    assert found["conditions"]["images_per_draw"] == 9
    assert found["conditions"]["real_images"]["count"] == 6
    assert len(row["metrics"][FD]["draws"][0]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("a --data nowhere", 2, "'nowhere' does not exist"),
        ("gone --data real", 2, "run gone does not exist"),
        ("--data real", 2, "no run is given"),
        ("a a --data real", 2, "run a is given twice"),
        ("a x=a --data real", 2, "run a is given twice"),
        ("a", 2, "--data is missing"),
        (
            "a --data real --features vgg19 --num 3 --metrics fid,pr",
            2,
            "--num 3: fid, pr need at least 4 images",
        ),
        ("a style.safetensors --data real", 2, "no common measure: a stylegan2, style style"),
        ("style.safetensors", 2, "--content is missing: images to stylize"),
        ("style.safetensors --content photos", 2, "--styles is missing: style images"),
        ("a --data real --metrics fdi", 2, "unknown metric 'fdi', did you mean 'fid'?"),
        ("a --data real --features squeezenet", 2, "did you mean 'squeezenet1_1'"),
        ("a --data real --feature-weights other=x", 2, "expected NAME=FILE"),
        ("a --data real --pairs list.json", 2, "--pairs is an option of `ganmod compare style`"),
        ("a --data real --nonsense", 2, "--nonsense"),
        ("style --style a", 2, "--styles"),
        ("style a --content photos --styles photos", 2, "--features is an option of `ganmod compare runs`"),
        ("a --data real --size 64", 2, "--size is not for runs of StyleGAN2"),
        ("style.safetensors --data real", 2, "--data is not for runs of Style transfer"),
        ("a --data real --trunc -1", 2, "--trunc is -1.0, expected 0 or more"),
        ("a copy --data real", 2, "a, copy are equal down to training seed 0"),
        ("a --data real --features compared_colours:broken", 1, "hold NaN or infinity"),
        ("photos --data real", 1, "photos holds no config.yaml"),
        ("a --data real --features inception", 1, "--data real -o"),
        ("a --features inception --data real", 1, "ganmod compare a --data real -o"),
    ],
)
def test_what_cannot_be_compared_is_one_message(
    here: Path, tmp_path: Path, arguments, code, message, ganmod_command
):
    if "copy" in arguments and not (here / "copy").exists():
        run_folder(here / "copy")
    features = () if "--features" in arguments else FEATURES
    ended = ganmod_command("compare", *arguments.split(), "-o", tmp_path / "out", *features)
    assert ended.code == code, ended.err
    assert message in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def test_two_processes_compare_as_one_does(here: Path, tmp_path: Path, ganmod_command):
    runs = ("a", "c", "--data", "real", "--batch", 5)
    expected = compared(ganmod_command, *runs, "-o", tmp_path / "one")
    two = ("-o", tmp_path / "two", "--json", "--device", "cpu")
    found = json.loads(run_by(2, "compare", *runs, *FEATURES, *two, folder=here))
    for own, other in zip(expected["rows"], found["rows"], strict=True):
        assert other["metrics"][FD]["draws"] == [pytest.approx(own["metrics"][FD]["draws"][0], rel=1e-6)]
        assert other["power_to_real"] == pytest.approx(own["power_to_real"], rel=1e-6)
    names = [sorted(file.name for file in (tmp_path / which).iterdir()) for which in ("one", "two")]
    assert names[0] == names[1]


def test_starganv2_models_are_compared_by_their_translations(
    here: Path, tmp_path: Path, ganmod_command: Callable[..., Any]
) -> None:
    """The same model twice gives the same figures; an untrained other one gives others."""
    for domain in ("cat", "dog"):
        folder_of(tmp_path / "faces" / domain, ["0.png", "1.png", "2.png"], height=32, width=32)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        networks = (build(kind, seed).float() for kind in (StarGenerator, MappingNetwork, StyleEncoder))
        save_starganv2(tmp_path / f"{name}.safetensors", StarGANv2(*networks))
    runs = [f"{row}={tmp_path / row}.safetensors" for row in "abc"]
    options = ["--data", tmp_path / "faces", "--features", "compared_colours:colours", "--num", 2]
    ended = ganmod_command("compare", *runs, *options, "--draws", 1, "--json", "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    rows = {row["row"]: row["metrics"] for row in json.loads(ended.out)["rows"]}
    assert any(
        "colours, per pair of domains: 3 images for 9 features" in x for x in json.loads(ended.out)["notes"]
    )
    for guidance in ("latent", "reference"):
        name = f"{guidance}/{FD}"
        pairs = [rows["a"][f"{name}/{pair}"]["mean"] for pair in ("cat2dog", "dog2cat")]
        assert rows["a"][name]["mean"] == pytest.approx(sum(pairs) / 2)
        assert rows["a"][name] == rows["b"][name] != rows["c"][name]
    table = (tmp_path / "out" / "table.md").read_text()
    assert f"latent/{FD}, lower is better" in table
    assert "cat2dog" not in table
    assert (tmp_path / "out" / "samples.jpg").stat().st_size > 1000


@pytest.mark.parametrize("command", ["compare", "fid"])
def test_the_reference_cache_serves_starganv2_too(
    here: Path, tmp_path: Path, ganmod_command, monkeypatch: pytest.MonkeyPatch, command: str
):
    monkeypatch.setenv("GANMOD_CACHE", str(tmp_path / "cache"))
    for domain, count in {"cat": 3, "dog": 4}.items():
        folder_of(tmp_path / "faces" / domain, [f"{i}.png" for i in range(count)], height=32, width=32)
    networks = (build(kind, 0).float() for kind in (StarGenerator, MappingNetwork, StyleEncoder))
    save_starganv2(tmp_path / "model.safetensors", StarGANv2(*networks))
    options = [tmp_path / "model.safetensors", "--features", "compared_colours:colours", "--num", 2, "--json"]
    if command == "compare":
        options += ["--data", tmp_path / "faces", "--draws", 1, "-o", tmp_path / "out"]
    else:
        options += [tmp_path / "faces"]
    plain = ganmod_command(command, *options, "--no-reference-cache")
    assert plain.code == 0, plain.err
    assert not (tmp_path / "cache").exists()
    measured, cached = (ganmod_command(command, *options).out for _ in range(2))
    assert len(list((tmp_path / "cache").iterdir())) == 2  # a file per domain
    assert plain.out == measured == cached


STYLE_ARGUMENTS = (
    *("mine=style.safetensors", "--content", "photos", "--styles", "paintings", "a", "--styles", "real"),
    *("--loss-network", "vgg19-slim", "--size", "64", "--feature-weights", "w.pth", "--threads", "1"),
    *("--device", "cpu", "--pictures", "peer=photos", "--optimised", "pixels", "--optima", "optima.json"),
)


@pytest.fixture
def style_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any, Any]]:
    """What `ganmod compare style` hands to the library: models, protocol, command; nothing is measured."""
    calls: list[tuple[Any, Any, Any]] = []

    class Stopped(ValueError):
        pass

    def record(models: Any, protocol: Any, *, command: str) -> None:
        calls.append((models, protocol, command))
        raise Stopped("nothing is measured here")

    monkeypatch.setattr("metrics.compare.style.comparison.compare_style_models", record)
    monkeypatch.setattr("metrics.compare.compare_style_models", record, raising=False)
    return calls


def test_style_models_and_options_are_handed_on(here: Path, tmp_path: Path, ganmod_command, style_calls):
    ended = ganmod_command("compare", "style", *STYLE_ARGUMENTS, "-o", tmp_path)
    assert "nothing is measured here" in ended.err
    ((models, protocol, command),) = style_calls
    assert models == {"mine": Path("style.safetensors"), "a": Path("a/model-latest.safetensors")}
    usual = {"pairs": None, "device": torch.device("cpu"), "progress": protocol.progress}
    assert {f.name: getattr(protocol, f.name) for f in fields(protocol)} == usual | {
        "content": Path("photos"),
        "styles": (Path("paintings"), Path("real")),
        "loss_network": "vgg19-slim",
        "feature_weights": Path("w.pth"),
        "lpips_weights": None,
        "size": 64,
        "pictures": {"peer": Path("photos")},
        "optimised": Path("pixels"),
        "optima": Path("optima.json"),
    }
    # The line to repeat it names files and folders only.
    assert command == (
        "ganmod compare style --name mine=style.safetensors --name a=model-latest.safetensors --pictures "
        "peer=photos --content photos --styles paintings --styles real --loss-network vgg19-slim "
        "--feature-weights w.pth --optimised pixels --optima optima.json --size 64 --threads 1 --pairs "
        "pairs.json -o report"
    )


def test_the_former_spelling_of_compare_style_works_and_says_so(
    here: Path, tmp_path: Path, ganmod_command, style_calls
):
    for arguments in (["--style", *STYLE_ARGUMENTS], [*STYLE_ARGUMENTS, "--style"]):
        ended = ganmod_command("compare", *arguments, "-o", tmp_path)
        assert ended.err.splitlines()[0] == ("`ganmod compare --style` is now spelled `ganmod compare style`")
    ended = ganmod_command("compare", "style", *STYLE_ARGUMENTS, "-o", tmp_path)
    assert "is now spelled" not in ended.err
    first, second, new = ((models, replace(p, progress=no_progress)) for models, p, _ in style_calls)
    assert first == second == new


def test_the_list_of_pairs_is_written_once_and_the_tables_are_printed(
    here: Path, tmp_path: Path, ganmod_command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("metrics.compare.style.pairs.DRAWN_STYLES", ("dots",))
    arguments = ["compare", "style", "--pictures", "peer=peer", "--content", "photos", "--styles"]
    arguments += ["paintings", "--size", 32, "--pairs", tmp_path / "list.json", "--threads", 1]
    for photo in range(3):
        for style in range(6):
            write_image(here / "peer" / f"{photo}--{style}.png", picture(photo, height=32, width=32))
    ended = ganmod_command(*arguments, "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert ended.out == (tmp_path / "out" / "table.md").read_text()
    pairs = (tmp_path / "list.json").read_text()
    assert pairs == (tmp_path / "out" / "pairs.json").read_text()
    ended = ganmod_command(*arguments, "-o", tmp_path / "again", "--json")
    assert json.loads(ended.out) == json.loads((tmp_path / "again" / "comparison.json").read_text())
    assert (tmp_path / "again" / "pairs.json").read_text() == pairs


def test_runs_is_the_subcommand_of_a_bare_comparison(here: Path, tmp_path: Path, ganmod_command):
    """And the page states the line that was typed."""
    arguments = ("--data", "real", "a", *FEATURES)
    bare = ganmod_command("compare", *arguments, "-o", tmp_path / "bare")
    named = ganmod_command("compare", "runs", *arguments, "-o", tmp_path / "named")
    assert (bare.code, named.code) == (0, 0), bare.err + named.err
    assert bare.out.replace("bare", "named") == named.out
    assert "ganmod compare --data real a --features" in (tmp_path / "bare" / "report.html").read_text()
    helped = ganmod_command("compare", "--help").out
    assert "--allow-differences" in helped
    assert "ganmod compare style" in helped
