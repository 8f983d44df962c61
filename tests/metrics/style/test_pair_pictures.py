"""If this fails, pictures of other programs are measured otherwise than models, or of the wrong pair."""

import numpy as np
import pytest
import torch
from torch import nn

from ganmod.features.vgg import VGGFeatures
from ganmod.io.images import center_crop, resize, to_tensor, write_image
from metrics.style.pair_pictures import PairPictures, picture_name
from metrics.style.pair_scores import Contestant, score_pairs, score_results
from metrics.style.table import loss_table, make_row, row_values

CONTENTS, STYLES = ("set/a.jpg", "b.png"), ("x.y.png", "z.jpeg")


def picture(seed, height=32, width=40):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def to_content(image):
    return to_tensor(image)[None].double()


@pytest.fixture
def folder(tmp_path):
    """Every pair's picture is another."""
    for i, content in enumerate(CONTENTS):
        for j, style in enumerate(STYLES):
            write_image(tmp_path / picture_name(content, style), picture(2 * i + j))
    return tmp_path


def test_pictures_are_found_by_the_stems_of_their_images(folder):
    assert (folder / "a--x.y.png").exists()
    assert (folder / "b--z.png").exists()
    like = torch.zeros(1, 3, 32, 40, dtype=torch.float64)
    rows = PairPictures("other", folder, CONTENTS, STYLES)
    for i in range(2):
        for j in range(2):
            assert torch.equal(rows.read(i, j, like), to_tensor(picture(2 * i + j))[None].double())
    assert not rows.cropped | rows.resized


def test_missing_pictures_and_names_that_cannot_be_told_apart_are_refused(folder):
    (folder / "b--z.png").unlink()
    with pytest.raises(ValueError, match=r"other: 1 of 4 pictures are missing, first .*b--z\.png"):
        PairPictures("other", folder, CONTENTS, STYLES)
    with pytest.raises(ValueError, match="2 pairs share a file"):
        PairPictures("other", folder, ("one/a.jpg", "two/a.png"), STYLES)


def test_another_size_is_cropped_resized_or_refused(folder):
    image = picture(7, 39, 47)
    file = folder / "a--x.y.png"
    like = torch.zeros(1, 3, 32, 40)
    rows = PairPictures("other", folder, CONTENTS, STYLES)
    write_image(file, image)  # what was cropped to multiples of 8
    assert torch.equal(rows.read(0, 0, like), to_tensor(center_crop(image, (32, 40)))[None])
    assert (rows.cropped, rows.resized) == ({file}, set())
    larger = picture(8, 64, 80)
    write_image(folder / "b--z.png", larger)
    found = rows.read(1, 1, like)
    assert torch.equal(found, to_tensor(resize(larger, (32, 40), resample="bicubic"))[None])
    rows.read(1, 1, like)
    assert rows.resized == {folder / "b--z.png"}
    write_image(file, picture(9, 40, 40))
    with pytest.raises(ValueError, match=r"a--x\.y\.png is 40 x 40 pixels, expected 32 x 40"):
        rows.read(0, 0, like)


def test_pictures_of_the_unchanged_contents_score_as_the_model_that_changes_nothing(tmp_path):
    torch.manual_seed(0)
    network = VGGFeatures((3, 4, 5, 6))
    for conv in network.convs.values():
        nn.init.kaiming_normal_(conv.weight)
    network = network.double().requires_grad_(False)
    images = [picture(i) for i in range(2)]
    for content, image in zip(CONTENTS, images, strict=True):
        for style in STYLES:
            write_image(tmp_path / picture_name(content, style), image)
    contents = [to_content(image) for image in images]
    styles = [to_content(picture(i, 32, 32)) for i in (5, 6)]
    rows = PairPictures("other", tmp_path, CONTENTS, STYLES)
    measures = {"loss_network": network, "lpips": lambda a, b: (a - b).abs().mean(dim=(1, 2, 3))}

    class Unchanged:
        def encode(self, x):
            return x

        def predict(self, style):
            return None

        def decode(self, features, params):
            return features

    model = Contestant("unchanged", Unchanged(), lambda style: style, 0, 0)
    scores = score_results("other", lambda c, s: rows.read(c, s, contents[c]), contents, styles, **measures)
    assert scores == score_pairs(model, contents, styles, **measures)
    assert {s.values["content_loss"] for s in scores} == {0}

    # In the table nothing is known of what made them but the name.
    row = make_row(rows, scores, {}, None)
    (cells,) = loss_table([row]).rows
    assert cells[0] == "other"
    assert cells[-3:] == ["", "", ""]
    assert not [name for name in row_values(row) if "param" in name or "seconds" in name]
