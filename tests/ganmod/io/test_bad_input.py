"""If this fails, a wrong file or option ends in a traceback, runs foreign code, or is accepted in silence."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from command_checks import assert_fails
from PIL import Image

import style_transfer
from ganmod.data.corrupt_images import MAX_CORRUPT_FILES
from ganmod.io.images import read_image, write_image
from ganmod.io.model_file import save_model_file

HEIGHT, WIDTH = 37, 53
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    write_image(tmp_path / "good.png", RGB)
    return tmp_path / "good.png"


# Images.


@pytest.mark.parametrize("place", ["content", "style"])
def test_a_missing_image_is_named(tmp_path: Path, good: Path, place: str, ganmod_command) -> None:
    missing = tmp_path / "missing.png"
    pair = (missing, good) if place == "content" else (good, missing)
    ended = ganmod_command("stylize", *pair, "-o", tmp_path / "o.png")
    assert_fails(ended, 2, "missing.png", "does not exist")


@pytest.mark.parametrize("place", ["content", "style"])
@pytest.mark.parametrize("damage", ["empty", "text", "cut short", "one pixel"])
def test_an_unusable_image_is_named_with_the_reason(
    tmp_path: Path, good: Path, damage: str, place: str, ganmod_command
) -> None:
    bad = tmp_path / "bad.png"
    if damage == "one pixel":
        write_image(bad, RGB[:1, :1])
    else:
        bad.write_bytes({"empty": b"", "text": b"hello" * 99}.get(damage, good.read_bytes()[:900]))
    reason = {
        "empty": "empty (0 bytes)",
        "text": "not an image",
        "cut short": "cut short",
        "one pixel": "1 x 1 pixels, expected at least 16 x 16",
    }[damage]
    pair = (bad, good) if place == "content" else (good, bad)
    ended = ganmod_command("stylize", *pair, "-o", tmp_path / "o.png")
    assert_fails(ended, 1, bad, reason)
    assert not (tmp_path / "o.png").exists()


def test_unusable_images_of_a_folder_are_left_out_and_named(
    tmp_path: Path, good: Path, ganmod_command
) -> None:
    for folder in ("contents", "styles"):
        write_image(tmp_path / folder / "fine.png", RGB)
        (tmp_path / folder / "bad.png").write_bytes(good.read_bytes()[:900])
    ended = ganmod_command("stylize", tmp_path / "contents", tmp_path / "styles", "-o", tmp_path / "out")
    assert_fails(ended, 1, tmp_path / "contents/bad.png", tmp_path / "styles/bad.png")
    assert "wrote 1 images" in ended.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"fine--fine.png", "grid.png"}


def save_in_mode(path: Path, kind: str) -> None:
    """The picture as a file of an unusual kind."""
    picture = Image.fromarray(RGB)
    if kind == "16 bit":
        Image.fromarray(RGB[..., 0].astype(np.uint16) * 257).save(path)
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6  # stored on its side
        picture.save(path, exif=exif)
    else:
        mode = {"CMYK": "CMYK", "palette": "P", "RGBA": "RGBA", "grey": "L"}[kind]
        picture.convert(mode).save(path)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("16 bit", ".png"),
        ("CMYK", ".jpg"),
        ("palette", ".png"),
        ("palette", ".gif"),
        ("RGBA", ".png"),
        ("grey", ".jpg"),
        ("rotated", ".jpg"),
    ],
)
def test_unusual_images_are_read_upright_in_their_size(
    tmp_path: Path, kind: str, suffix: str, ganmod_command
) -> None:
    file, out = tmp_path / f"a{suffix}", tmp_path / "o.png"
    save_in_mode(file, kind)
    ended = ganmod_command("stylize", file, file, "-o", out)
    assert ended.code == 0, ended.err
    assert read_image(out).shape == ((WIDTH, HEIGHT, 3) if kind == "rotated" else (HEIGHT, WIDTH, 3))


def test_a_folder_without_images_is_named(tmp_path: Path, good: Path, ganmod_command) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("no image")
    for pair in ((tmp_path / "none", good), (good, tmp_path / "none")):
        assert_fails(ganmod_command("stylize", *pair, "-o", tmp_path / "out"), 1, tmp_path / "none")
    run = ("train", "style", "--config", "style-smoke", "--out", tmp_path / "run")
    assert_fails(ganmod_command(*run, "--content", tmp_path / "none"), 1, tmp_path / "none")


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, good: Path, ganmod_command
) -> None:
    ended = ganmod_command("stylize", good, good, "-o", tmp_path / "result")
    assert_fails(ended, 2, "no image suffix", "result.png")
    folder = tmp_path / "styles"
    write_image(folder / "s.png", RGB)
    assert_fails(ganmod_command("stylize", good, folder, "-o", good), 2, "need a folder", good)


# Options.


def test_an_unknown_modulation_gives_the_nearest_and_the_list(tmp_path: Path, ganmod_command) -> None:
    ended = ganmod_command("train", "style", "--out", tmp_path / "run", "--modulation", "adacon")
    assert_fails(ended, 2, "'adacon'", "did you mean 'adaconv'?", "weight_demod", "--plugin")
    assert not (tmp_path / "run").exists()


def test_an_unknown_modulation_option_gives_the_list(ganmod_command) -> None:
    setting = "model.modulation_options={kernel_budgt: 64}"
    ended = ganmod_command("train", "style", "--dry-run", "--set", setting)
    assert_fails(ended, 1, "'kernel_budgt'", "did you mean 'kernel_budget'?")


def test_an_unknown_preset_gives_the_list(ganmod_command) -> None:
    ended = ganmod_command("train", "style", "--dry-run", "--config", "style-adacom")
    assert_fails(ended, 2, "'style-adacom'", "style-adaconv-slim", "style-smoke")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimizer.learning_rate=1", ["optimizer.learning_rate"]),
        ("optimzer.lr=0.001", ["optimzer"]),
        ("optimizer.lr=fast", ["optimizer.lr", "number"]),
        ("optimizer.lr=-1", ["optimizer.lr", "greater than 0"]),
        ("runtime.seed.value=1", ["runtime.seed"]),
        ("optimizer.lr", ["expected key=value"]),
        ("data.crop=100", ["data.crop 100 is not a multiple of 8", "96 or 104"]),
    ],
)
def test_a_wrong_setting_names_its_key(setting: str, words: list[str], ganmod_command) -> None:
    assert_fails(ganmod_command("train", "style", "--dry-run", "--set", setting), 2, *words)


def test_unknown_options_commands_and_plugins_are_usage_errors(
    tmp_path: Path, good: Path, ganmod_command
) -> None:
    pair = ("stylize", good, good, "-o", tmp_path / "o.png")
    assert_fails(ganmod_command(*pair, "--alhpa", 1), 2, "--alhpa", "--alpha")
    assert_fails(ganmod_command(*pair, "--alpha", "strong"), 2, "--alpha", "strong")
    assert_fails(ganmod_command(*pair, "--size", 8), 2, "--size", "16")
    assert_fails(ganmod_command(*pair, "--device", "gpu"), 2, "--device gpu", "cuda:N")
    assert_fails(ganmod_command(*pair, "--plugin", "no.such.module"), 2, "no.such.module")
    assert_fails(ganmod_command("stylise"), 2, "stylise")
    assert_fails(ganmod_command("train", "style"), 2, "--out")
    assert_fails(ganmod_command("modulations", "--plugin", "no_such_module"), 2, "no_such_module")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_device_that_is_not_there_is_a_usage_error(tmp_path: Path, good: Path, ganmod_command) -> None:
    ended = ganmod_command("stylize", good, good, "-o", tmp_path / "o.png", "--device", "cuda")
    assert_fails(ended, 2, "--device cuda", "0 GPUs")
    run = ("train", "style", "--config", "style-smoke", "--out", tmp_path / "run")
    assert_fails(ganmod_command(*run, "--device", "cuda:3"), 2, "--device cuda:3")


# Model files.


@pytest.fixture
def stylize_with(tmp_path: Path, good: Path, ganmod_command):
    """Run `ganmod stylize --model FILE`, which must leave no result."""

    def run(model: Path):
        ended = ganmod_command("stylize", good, good, "-o", tmp_path / "o.png", "--model", model)
        assert not (tmp_path / "o.png").exists()
        return ended

    return run


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.001, 0.5, 0.9999])
def test_a_model_file_cut_short_is_refused(tmp_path: Path, share: float, stylize_with) -> None:
    whole = style_transfer.model.SHIPPED_MODEL.read_bytes()
    bad = tmp_path / "cut.safetensors"
    bad.write_bytes(whole[: int(len(whole) * share)])
    assert_fails(stylize_with(bad), 1, bad, "is empty" if share == 0 else "cut short")


def test_a_model_file_with_other_tensors_is_refused(tmp_path: Path, stylize_with) -> None:
    model = style_transfer.load()
    model.save(tmp_path / "fine.safetensors")
    file = style_transfer.model.read_model_file(tmp_path / "fine.safetensors")
    tensors = dict(file.tensors)
    name = "decoder.to_rgb.bias"
    tensors["foreign.weight"] = tensors.pop(name)
    tensors["feature_rms"] = torch.ones(3)
    bad = tmp_path / "bad.safetensors"
    save_model_file(bad, tensors, kind=file.kind, config=file.config)
    assert_fails(stylize_with(bad), 1, bad, f"missing: {name}", "foreign.weight", "feature_rms (got [3]")


def test_a_model_of_another_kind_is_refused(tmp_path: Path, stylize_with) -> None:
    bad = tmp_path / "features.safetensors"
    save_model_file(bad, {"x": torch.ones(1)}, kind="feature-network", config={})
    assert_fails(stylize_with(bad), 1, bad, "'feature-network'", "'style-transfer'")


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("form", ["pickle", "torch", "torch legacy"])
def test_a_pickle_given_as_a_model_is_refused_and_not_run(tmp_path: Path, form: str, stylize_with) -> None:
    bad, trace = tmp_path / "model.pt", tmp_path / "it-was-run"
    if form == "pickle":
        bad.write_bytes(pickle.dumps(Trap(trace)))
    else:
        torch.save({"a": Trap(trace)}, bad, _use_new_zipfile_serialization=form == "torch")
    assert_fails(stylize_with(bad), 1, bad, "nothing in it was run", "ganmod import")
    assert not trace.exists()
    pickle.loads(pickle.dumps(Trap(trace)))
    assert trace.exists()  # the trap works


# Training data.


@pytest.fixture
def train_on(tmp_path: Path, ganmod_command):
    """Run two tiny steps of training with a folder as contents and as styles."""

    def run(folder: Path, **settings: object):
        arguments = ["--config", "style-smoke", "--size", 32, "--batch", 2, "--kimg", 0.004]
        arguments += ["--device", "cpu", "--set", "data.short_side=32", "--set", "runtime.tensorboard=false"]
        return ganmod_command(
            "train", "style", "--out", tmp_path / "run", "--content", folder, "--style", folder, *arguments
        )

    return run


@pytest.mark.filterwarnings("default:skipped")
def test_training_names_a_corrupt_image_and_goes_on(tmp_path: Path, good: Path, train_on) -> None:
    folder = tmp_path / "photos"
    write_image(folder / "fine.png", RGB)
    (folder / "bad.png").write_bytes(good.read_bytes()[:900])
    with pytest.warns(UserWarning, match=r"skipped: .*bad\.png.*cut short"):
        ended = train_on(folder)
    assert ended.code == 0, ended.err
    assert (tmp_path / "run" / "model-latest.safetensors").is_file()


@pytest.mark.filterwarnings("ignore:skipped")
def test_training_fails_with_more_corrupt_images_than_the_limit(tmp_path: Path, good: Path, train_on) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(MAX_CORRUPT_FILES + 1):
        (folder / f"bad{i}.png").write_bytes(good.read_bytes()[:900])
    write_image(folder / "fine.png", RGB)
    assert_fails(train_on(folder), 1, f"more than {MAX_CORRUPT_FILES} corrupt", folder / "bad")


@pytest.mark.filterwarnings("ignore:skipped")
def test_training_fails_where_no_image_can_be_read(tmp_path: Path, good: Path, train_on) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "bad.png").write_bytes(good.read_bytes()[:900])
    assert_fails(train_on(folder), 1, "none of the 1", "can be read")
