"""If this fails, `ganmod compare --style` leaves a figure, a picture or the list of images out."""

import json
import re

import click
import numpy as np
import pytest
import torch
from small_images import folder_of
from stroke_models import grating
from torch import nn

from ganmod.cli import style_pairs
from ganmod.cli.compare_style import compare_style_models
from ganmod.cli.style_facts import StyleInputs
from ganmod.features import FeatureError, VGGFeatures
from ganmod.images import read_image, write_image
from metrics import style_table
from style_transfer import ModelSpec, build

WIDTHS = (4, 4, 6, 8)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two untrained models, two photos, a style with a direction and one without; little is drawn."""
    for i, name in enumerate(("adain", "weight_demod")):
        torch.manual_seed(i)
        encoder = VGGFeatures(WIDTHS)
        for conv in encoder.convs.values():
            nn.init.kaiming_normal_(conv.weight)
        encoder.calibrate(torch.rand(1, 3, 64, 64))
        spec = ModelSpec("tiny", WIDTHS, modulation=name, style_dim=5, style_image_size=64)
        build(spec, encoder).save(tmp_path / f"{name}.safetensors")
    folder_of(tmp_path / "photos", ["a.png", "b.png"], height=64, width=72)
    folder_of(tmp_path / "styles", ["noise.png"], height=128, width=128)
    write_image(tmp_path / "styles" / "stripes.png", grating(30, size=128))
    monkeypatch.setattr(style_pairs, "DRAWN_STYLES", ("dots",))
    monkeypatch.setattr(
        style_table,
        "time_models",
        lambda contestants, *_, **__: {c.name: ({256: 0.5}, 0.1) for c in contestants},
    )
    return tmp_path


def compare(place, *names, out="out", **changes):
    options = {
        "content": place / "photos",
        "styles": (place / "styles",),
        "loss_network": "ganmod-slim",
        "feature_weights": None,
        "lpips_weights": None,
        "size": 64,
    }
    how = {"device": "cpu", "threads": 1, "pairs": None, "as_json": False}
    how |= {name: changes.pop(name) for name in list(changes) if name in how}
    models = {name: place / f"{name}.safetensors" for name in names}
    compare_style_models(StyleInputs(models, **options | changes), out=place / out, **how)
    return json.loads((place / out / "comparison.json").read_text())


def test_everything_is_written_and_a_list_repeats_it(place, capsys):
    record = compare(place, "adain", "weight_demod", pairs=place / "list.json")
    shown = capsys.readouterr().out
    names = ["adain", "weight_demod", "(content unchanged)"]
    assert [row["model"] for row in record["rows"]] == names
    assert [row["model"] for row in record["responses"]] == [*names, "(style itself)"]
    assert all(row["num_pairs"] == len(row["pairs"]) == 4 for row in record["rows"])
    unchanged = record["rows"][2]
    assert (unchanged["content_loss"], unchanged["ssim"]) == pytest.approx((0, 1))
    assert "seconds_256" not in unchanged

    # Noise and dots fail the gate; noise, which no one asked to be turned, is left out.
    assert {s["name"]: s["has_direction"] for s in record["turned_styles"]} == {
        "dots": False,
        "stripes.png": True,
    }
    assert record["pairs"]["rotation_styles"] == ["stripes.png"]
    responses = {row["model"]: row for row in record["responses"]}
    assert responses["(content unchanged)"]["rotation_response"] < 1e-12
    assert responses["(style itself)"]["rotation_response"] > 0.95
    structure = [
        responses[name]["undirected_patch_swd"] for name in ("(style itself)", "(content unchanged)")
    ]
    assert structure[0] < 0.5 * structure[1]
    (difference,) = record["differences (mean, standard error)"].items()
    assert difference[0] == "weight_demod - adain"
    assert {"style_loss", "patch_swd", "rotation_response"} <= difference[1].keys()

    # The line to repeat it names files and folders only, and the list that was not there was made.
    assert str(place) not in record["command"]
    assert "--name adain=adain.safetensors" in record["command"]
    assert (place / "list.json").read_text() == (place / "out" / "pairs.json").read_text()

    # The table is last, and LPIPS is said to be missing.
    assert shown.splitlines()[-1].startswith("| (content unchanged) | 0.000 (0.000)")
    assert "--lpips-weights" in shown
    assert (place / "out" / "table.md").read_text() == shown
    assert (place / "out" / "table.csv").read_text().count("\n") == 4
    html = (place / "out" / "report.html").read_text()
    assert "http" not in re.sub(r"base64,[^\"]*", "", html)
    assert html.count("<img") == 3  # pairs; the stripes turned, and mixed
    assert read_image(place / "out" / "comparison.jpg").std() > 0
    assert not (place / "out" / "rotation.jpg").exists()  # nothing was drawn that has a direction

    again = compare(place, "weight_demod", out="again", pairs=place / "list.json", as_json=True)
    assert json.loads(capsys.readouterr().out) == again
    assert again["pairs"] == record["pairs"]
    np.testing.assert_allclose(again["rows"][0]["pairs"], record["rows"][1]["pairs"], atol=2e-4)


def test_wrong_use_is_told_before_any_work(place):
    with pytest.raises(click.UsageError, match="no model is given"):
        compare(place)
    with pytest.raises(click.UsageError, match="--size 27: expected 32"):
        compare(place, "adain", size=27)
    with pytest.raises(click.UsageError, match="is a file"):
        compare(place, "adain", out="adain.safetensors")
    with pytest.raises(FeatureError, match="--feature-weights"):
        compare(place, "adain", loss_network="vgg19-slim")
    with pytest.raises(ValueError, match="does not exist"):
        compare(place, "adain", content=place / "nowhere")
    assert not (place / "out").exists()
