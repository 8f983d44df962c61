"""If this fails, `ganmod compare --style` leaves a figure, a picture or the list of images out."""

import json
import re

import click
import numpy as np
import pytest
import torch
from small_images import folder_of
from stroke_models import grating
from tiny_style_model import make as tiny_model
from torch import nn

from ganmod.cli.compare import style as compare_style
from ganmod.cli.compare.style import compare_style_models
from ganmod.features.vgg import FeatureError, VGGFeatures
from ganmod.io.images import read_image, resize, to_tensor, write_image
from metrics.compare import style_optima, style_pairs, style_pictures
from metrics.compare.style_entries import model_entry
from metrics.compare.style_facts import StyleInputs
from metrics.images.lattice import measure_lattice
from metrics.images.structure import flat_mask, luma
from metrics.style import table as style_table
from metrics.style.pair_scores import to_array
from style_transfer import ModelSpec, build, prepare_style
from style_transfer.optimize import OptimizeSettings

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


def test_pictures_optimised_pixels_and_gaps_are_rows_and_columns_beside_the_models(place, monkeypatch):
    monkeypatch.setattr(compare_style, "SETTINGS", OptimizeSettings(steps=4, sizes=1, lr=0.05))
    for photo in ("a", "b"):
        image = read_image(place / "photos" / f"{photo}.png")
        for style in ("noise", "stripes"):
            write_image(place / "peer" / f"{photo}--{style}.png", image)
    given = {
        "pictures": {"peer": place / "peer"},
        "optimised": place / "pixels",
        "optima": place / "optima.json",
    }
    record = compare(place, "adain", **given)
    rows = {row["model"]: row for row in record["rows"]}
    assert list(rows) == ["adain", "peer", "optimised", "(content unchanged)"]
    assert [row["model"] for row in record["responses"]] == [
        "adain",
        "(content unchanged)",
        "(style itself)",
    ]

    # The photos themselves as pictures: the same figures as of the content unchanged, and no cost.
    assert rows["peer"]["pairs"] == rows["(content unchanged)"]["pairs"]
    assert "seconds_256" in rows["adain"]
    assert not {"seconds_256", "style_seconds", "all_parameters"} & rows["peer"].keys()

    # Gaps, from the losses in the two files.
    optima = json.loads((place / "optima.json").read_text())
    assert [pair[:2] for pair in optima["pairs"]] == [
        ["a.png", "noise.png"],
        ["b.png", "noise.png"],
        ["a.png", "stripes.png"],
        ["b.png", "stripes.png"],
    ]
    ratios = {}
    for name, row in rows.items():
        losses = [pair[2] + 3 * pair[3] for pair in row["pairs"]]  # by style, then by content
        ratios[name] = np.mean(
            [loss / (c + 3 * s) for loss, (_, _, c, s) in zip(losses, optima["pairs"], strict=True)]
        )
        assert row["gap"] == pytest.approx(ratios[name], rel=1e-3)  # of rounded losses
    assert (rows["optimised"]["gap"], rows["optimised"]["gap_se"]) == pytest.approx((1, 0))
    assert rows["peer"]["gap"] == rows["(content unchanged)"]["gap"] > 1
    assert record["optima"]["pairs"] == 4
    assert record["optima"]["settings"]["steps"] == 4
    columns = record["tables"]["losses"]["columns"]
    assert columns[columns.index("patch-SWD to style") + 1 :][:2] == ["gap", "lattice"]
    photos = [style_pictures.content_tensor(read_image(place / f"photos/{name}.png"), 64) for name in "ab"]
    styles = [place / "styles/noise.png", place / "styles/stripes.png"]
    styles = [prepare_style(to_tensor(read_image(file))[None], 64) for file in styles]
    images = [[to_array(photo), to_array(style)] for style in styles for photo in photos]
    lumas = [[luma(image) for image in pair] for pair in images]
    masks = [flat_mask(photo) for photo, _ in images]
    expected = measure_lattice([p for p, _ in lumas], [s for _, s in lumas], masks).share
    assert rows["(content unchanged)"]["lattice"] == pytest.approx(expected, rel=1e-6)
    assert "--optima optima.json" in record["command"]
    assert "--pictures peer=peer" in record["command"]

    # What is there is not made again; without a model there is a table, too.
    monkeypatch.setattr(style_optima, "PixelOptimizer", None)
    again = compare(place, out="again", **given)
    assert again["rows"] == record["rows"][1:]
    with pytest.raises(ValueError, match=r"expected \{'network_sha256'.*'size': 72.*name another folder"):
        compare(place, "adain", size=72, optimised=place / "pixels")
    with pytest.raises(ValueError, match=r"no made_with\.json"):
        compare(place, "adain", optimised=place / "peer")
    with pytest.raises(click.UsageError, match="two rows are named 'adain'"):
        compare(place, "adain", pictures={"adain": place / "peer"})
    (place / "peer" / "b--noise.png").unlink()
    with pytest.raises(ValueError, match="peer: 1 of 4 pictures are missing"):
        compare(place, "adain", pictures=given["pictures"])


def test_a_picture_of_another_size_is_resized_and_the_table_says_so(place, capsys):
    for photo in ("a", "b"):
        for style in ("noise", "stripes"):
            image = read_image(place / "photos" / f"{photo}.png")
            write_image(place / "peer" / f"{photo}--{style}.png", resize(image, (128, 144)))
    record = compare(place, pictures={"peer": place / "peer"})
    assert record["pictures"] == {"peer": {"folder": "peer", "cropped": 0, "resized": 4}}
    assert "peer: not all pictures have the content's size, 4 were resized to it" in capsys.readouterr().out


def test_a_model_of_whole_styles_sees_them_at_the_size_of_the_losses():
    torch.manual_seed(0)
    spec = ModelSpec("tiny", WIDTHS, architecture="residual", style_dim=8, style_image_size=256, width=16)
    whole = build(spec, VGGFeatures(WIDTHS)).eval()
    assert whole.sees_whole_styles
    prepare = model_entry("whole", whole, 64).contestant.prepare_style
    square, wide = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 100, 150)
    assert torch.equal(prepare(square), square)  # as turned styles come: no pixel changes
    assert torch.equal(prepare(wide), prepare_style(wide, 64))
    squares = model_entry("square", tiny_model("adaconv"), 32).contestant.prepare_style
    assert squares(square).shape == (1, 3, 64, 64)  # its style_image_size


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
