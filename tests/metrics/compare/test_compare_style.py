"""If this fails, a comparison of style models leaves a figure, a picture or the list of images out."""

import json
import re

import numpy as np
import pytest
import torch
from counted_progress import CountedProgress
from small_images import folder_of
from stroke_models import grating
from tiny_style_model import make as tiny_model
from torch import nn

from ganmod.features.vgg import FeatureError, VGGFeatures
from ganmod.io.images import read_image, resize, to_tensor, write_image
from metrics.compare import StyleProtocol, compare_style_models
from metrics.compare.style import comparison as style_comparison
from metrics.compare.style import optima as style_optima
from metrics.compare.style import pairs as style_pairs
from metrics.compare.style.entries import model_entry
from metrics.compare.style.pictures import content_tensor
from metrics.images.lattice import measure_lattice
from metrics.images.structure import flat_mask, luma
from metrics.style import table as style_table
from metrics.style.pair_scores import to_array
from style_transfer import ModelSpec, build, load, prepare_style
from style_transfer.optimize import OptimizeSettings

WIDTHS = (4, 4, 6, 8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
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


def compare(folder, *names, out="out", **changes):
    """The record of a comparison of the folder's models, which is written into out."""
    options = {"content": folder / "photos", "styles": [folder / "styles"], "size": 64, **changes}
    models = {name: folder / f"{name}.safetensors" for name in names}
    comparison = compare_style_models(models, StyleProtocol(**options), command="repeat this")
    comparison.write(folder / out)
    record = json.loads((folder / out / "comparison.json").read_text())
    assert json.loads(json.dumps(comparison.to_json())) == record
    return record


def test_everything_is_written_and_a_list_repeats_it(folder):
    record = compare(folder, "adain", "weight_demod")
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

    # The table is last, and LPIPS is said to be missing.
    shown = (folder / "out" / "table.md").read_text()
    assert shown.splitlines()[-1].startswith("| (content unchanged) | 0.000 (0.000)")
    assert "--lpips-weights" in shown
    assert (folder / "out" / "table.csv").read_text().count("\n") == 4
    html = (folder / "out" / "report.html").read_text()
    assert "http" not in re.sub(r"base64,[^\"]*", "", html)
    assert "repeat this" in html
    assert html.count("<img") == 3  # pairs; the stripes turned, and mixed
    assert read_image(folder / "out" / "comparison.jpg").std() > 0
    assert not (folder / "out" / "rotation.jpg").exists()  # nothing was drawn that has a direction

    pairs = style_pairs.read_pairs(folder / "out" / "pairs.json")
    again = compare(folder, "weight_demod", out="again", pairs=pairs)
    assert again["pairs"] == record["pairs"]
    np.testing.assert_allclose(again["rows"][0]["pairs"], record["rows"][1]["pairs"], atol=2e-4)


def test_pictures_optimised_pixels_and_gaps_are_rows_and_columns_beside_the_models(folder, monkeypatch):
    monkeypatch.setattr(style_comparison, "SETTINGS", OptimizeSettings(steps=4, sizes=1, lr=0.05))
    for photo in ("a", "b"):
        image = read_image(folder / "photos" / f"{photo}.png")
        for style in ("noise", "stripes"):
            write_image(folder / "peer" / f"{photo}--{style}.png", image)
    options = {
        "pictures": {"peer": folder / "peer"},
        "optimised": folder / "pixels",
        "optima": folder / "optima.json",
    }
    record = compare(folder, "adain", **options)
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
    optima = json.loads((folder / "optima.json").read_text())
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
    photos = [content_tensor(read_image(folder / f"photos/{name}.png"), 64) for name in "ab"]
    styles = [folder / "styles/noise.png", folder / "styles/stripes.png"]
    styles = [prepare_style(to_tensor(read_image(file))[None], 64) for file in styles]
    images = [[to_array(photo), to_array(style)] for style in styles for photo in photos]
    lumas = [[luma(image) for image in pair] for pair in images]
    masks = [flat_mask(photo) for photo, _ in images]
    expected = measure_lattice([p for p, _ in lumas], [s for _, s in lumas], masks).share
    assert rows["(content unchanged)"]["lattice"] == pytest.approx(expected, rel=1e-6)

    # What is there is not made again; without a model there is a table, too.
    monkeypatch.setattr(style_optima, "PixelOptimizer", None)
    again = compare(folder, out="again", **options)
    assert again["rows"] == record["rows"][1:]
    with pytest.raises(ValueError, match=r"expected \{'network_sha256'.*'size': 72.*name another folder"):
        compare(folder, "adain", size=72, optimised=folder / "pixels")
    with pytest.raises(ValueError, match=r"no made_with\.json"):
        compare(folder, "adain", optimised=folder / "peer")
    with pytest.raises(ValueError, match="two rows are named 'adain'"):
        compare(folder, "adain", pictures={"adain": folder / "peer"})
    (folder / "peer" / "b--noise.png").unlink()
    with pytest.raises(ValueError, match="peer: 1 of 4 pictures are missing"):
        compare(folder, "adain", pictures=options["pictures"])


def test_a_picture_of_another_size_is_resized_and_the_table_says_so(folder):
    for photo in ("a", "b"):
        for style in ("noise", "stripes"):
            image = read_image(folder / "photos" / f"{photo}.png")
            write_image(folder / "peer" / f"{photo}--{style}.png", resize(image, (128, 144)))
    record = compare(folder, pictures={"peer": folder / "peer"})
    assert record["pictures"] == {"peer": {"folder": "peer", "cropped": 0, "resized": 4}}
    assert (
        "peer: not all pictures have the content's size, 4 were resized to it"
        in (folder / "out" / "table.md").read_text()
    )


def test_loaded_models_and_their_files_give_the_same_figures(folder):
    file = folder / "adain.safetensors"
    protocol = StyleProtocol(folder / "photos", [folder / "styles"], size=64)
    comparison = compare_style_models({"file": file, "loaded": load(file)}, protocol)
    by_file, loaded, _ = comparison.rows
    assert by_file.means == loaded.means
    assert comparison.to_json()["models"]["loaded"] == {"file": None, "sha256": None}
    assert comparison.table.columns[:2] == ["model", "content loss"]
    assert [row[0] for row in comparison.table.rows] == ["file", "loaded", "(content unchanged)"]
    assert comparison.figures.rows[0][2] == by_file.means["content_loss"]


def test_progress_counts_every_step(folder):
    progress = CountedProgress()
    protocol = StyleProtocol(folder / "photos", [folder / "styles"], size=64, progress=progress)
    compare_style_models({"adain": folder / "adain.safetensors"}, protocol)
    del progress.bars["time of each model in turn"]  # the fixture's timing has no steps
    assert {"adain", "adain, turned", "turn the styles"} < progress.bars.keys()
    assert all(announced == done for announced, done in progress.counts.values())


def test_a_model_of_whole_styles_sees_them_at_the_size_of_the_losses():
    torch.manual_seed(0)
    spec = ModelSpec("tiny", WIDTHS, architecture="residual", style_dim=8, style_image_size=256, width=16)
    model = build(spec, VGGFeatures(WIDTHS)).eval()
    assert model.sees_whole_styles
    prepare = model_entry("whole", model, 64).contestant.prepare_style
    square, wide = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 100, 150)
    assert torch.equal(prepare(square), square)  # as turned styles come: no pixel changes
    assert torch.equal(prepare(wide), prepare_style(wide, 64))
    squares = model_entry("square", tiny_model("adaconv"), 32).contestant.prepare_style
    assert squares(square).shape == (1, 3, 64, 64)  # its style_image_size


def test_wrong_use_is_refused_before_any_work(folder):
    with pytest.raises(ValueError, match="no model is given"):
        compare(folder)
    with pytest.raises(ValueError, match="size 27: expected 32"):
        compare(folder, "adain", size=27)
    with pytest.raises(ValueError, match=r"styles is one path, expected a list of folders: \['"):
        compare(folder, "adain", styles=str(folder / "styles"))
    with pytest.raises(FeatureError, match="--feature-weights"):
        compare(folder, "adain", loss_network="vgg19-slim")
    with pytest.raises(ValueError, match="does not exist"):
        compare(folder, "adain", content=folder / "nowhere")
    assert not (folder / "out").exists()
