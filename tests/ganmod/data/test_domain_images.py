"""If this fails, StarGAN v2 sees other images than it should: unbalanced, unrepeatable, of a wrong domain."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_images import folder_of, picture, png, same, write_zip

from ganmod.data.domain_images import CROP_AREA, CROP_ASPECT, DomainImages, draw_crop
from ganmod.io.images import ImageError, resize


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cats and six dogs; cats are reddish, dogs bluish."""
    path = tmp_path_factory.mktemp("domains")
    for domain, count, colour in (("cat", 2, (200, 0, 0)), ("dog", 6, (0, 0, 200))):
        (path / domain).mkdir()
        for i in range(count):
            pixels = np.full((20 + i, 24, 3), colour, dtype=np.uint8)
            pixels[:, :, 1] = 40 * i
            pixels[:, :3] = 255  # a bright edge on the left, to see flips by
            Image.fromarray(pixels).save(path / domain / f"{i}.png")
    return path


def test_domains_are_drawn_alike_and_images_belong_to_them(folder: Path):
    stream = DomainImages(folder, img_size=16, seed=3)
    assert stream.domains == ("cat", "dog")
    assert stream.counts == {"cat": 2, "dog": 6}
    items = [stream[position] for position in range(400)]
    sources, targets = (torch.stack([getattr(i, name) for i in items]) for name in ("domain", "target"))
    for values in (sources, targets, (sources == targets).long()):
        assert abs(values.float().mean() - 0.5) < 0.08  # 3 deviations, though a domain has 3 times as many
    greens: dict[int, set[int]] = {0: set(), 1: set()}
    for item in items:
        for image, domain in (
            (item.image, item.domain),
            (item.reference, item.target),
            (item.other_reference, item.target),
        ):
            red, green, blue = image[:, 8, 8].tolist()
            assert (red, blue) == ((200, 0) if domain == 0 else (0, 200))
            greens[int(domain)].add(green)
    assert greens == {0: {0, 40}, 1: {0, 40, 80, 120, 160, 200}}
    flipped = np.mean([bool(item.image[1, 8, -1] > 200) for item in items])
    differing = np.mean([bool((i.reference[1, 8, 8] != i.other_reference[1, 8, 8]).item()) for i in items])
    assert 0.3 < flipped < 0.7
    assert abs(differing - (1 / 2 + 5 / 6) / 2) < 0.1


def test_an_item_depends_on_seed_and_position_alone(folder: Path):
    stream, again = (DomainImages(folder, img_size=16, seed=3) for _ in range(2))
    others = DomainImages(folder, img_size=16, seed=4)
    expected = [stream[position] for position in range(30)]
    for position in reversed(range(30)):
        for a, b in zip(expected[position], again[position], strict=True):
            assert torch.equal(a, b)
    assert any(not torch.equal(expected[i].image, others[i].image) for i in range(30))


def test_every_image_is_resized_whole_where_nothing_is_random(folder: Path):
    stream = DomainImages(folder, img_size=16, crop_prob=0, mirror=False)
    for index in range(6):
        pixels = np.array(Image.open(folder / "dog" / f"{index}.png"))
        assert same(stream.image(1, index), resize(pixels, (16, 16), resample="bilinear"))
    assert torch.equal(stream.image(1, -1), stream.image(1, 5))
    item = stream[0]
    known = [stream.image(int(item.domain), i) for i in range(6)]
    assert any(torch.equal(item.image, image) for image in known)


def test_crops_have_the_published_area_and_aspect():
    rng = np.random.default_rng(0)
    crops = np.array([draw_crop(rng, 300, 280) for _ in range(2000)])
    top, left, height, width = crops.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 300).all()
    assert (left + width <= 280).all()
    area, aspect = height * width / (300 * 280), width / height
    assert area.min() > CROP_AREA[0] - 0.01
    assert area.max() <= CROP_AREA[1]
    assert aspect.min() > CROP_ASPECT[0] - 0.01
    assert aspect.max() < CROP_ASPECT[1] + 0.01
    assert abs(np.median(area) - 0.88) < 0.03  # below the middle, as large parts of some aspects do not fit
    assert len(set(top.tolist())) > 20


def test_an_image_too_narrow_to_crop_gives_its_middle():
    rng = np.random.default_rng(0)
    assert draw_crop(rng, 100, 400) == (0, 145, 100, 110)
    top, left, height, width = draw_crop(rng, 400, 90)
    assert (left, width, height) == (0, 90, 100)
    assert top == 150
    assert math.isclose(width / height, CROP_ASPECT[0])


def test_zips_and_labels_of_a_packed_data_set(tmp_path: Path):
    members: dict[str, bytes | str] = {f"{'ab'[i % 2]}/{i}.png": png(picture(i)) for i in range(4)}
    stream = DomainImages(write_zip(tmp_path / "plain.zip", members), img_size=16)
    assert stream.counts == {"a": 2, "b": 2}
    members = {f"00000/{i}.png": png(picture(i)) for i in range(4)}
    labels = [[f"00000/{i}.png", int(i > 0)] for i in range(4)]
    members["dataset.json"] = json.dumps({"labels": labels, "label_names": ["x", "y"]})
    packed = DomainImages(write_zip(tmp_path / "packed.zip", members), img_size=16)
    assert packed.counts == {"x": 1, "y": 3}


def test_a_corrupt_file_is_named_and_passed_over(tmp_path: Path):
    folder_of(tmp_path, ["a/0.png", "a/1.png", "b/0.png", "b/1.png"], height=16, width=16)
    whole = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "a" / "0.png").write_bytes(whole[: len(whole) // 2])  # its header can be read
    stream = DomainImages(tmp_path, img_size=16)
    with pytest.warns(UserWarning, match=r"skipped: .*a/0.png"):
        assert same(stream.image(0, 0), picture(1, 16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for position in range(20):
            stream[position]  # reported once
    strict = DomainImages(tmp_path, img_size=16, max_corrupt=0)
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(ImageError, match="more than 0 corrupt images"),
    ):
        strict.image(0, 0)


def test_layouts_that_are_no_domains_say_what_would_be(tmp_path: Path):
    folder_of(tmp_path, ["a/0.png", "a/1.png"])
    with pytest.raises(ValueError, match=r"expected two or more sub-folders, one per class"):
        DomainImages(tmp_path, img_size=16)
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"domain folder .*b holds no image: add some"):
        DomainImages(tmp_path, img_size=16)
    (tmp_path / "b" / "0.png").write_bytes(b"no image")
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(ValueError, match=r"domain 'b' of .* holds no readable image"),
    ):
        DomainImages(tmp_path, img_size=16)
    folder_of(tmp_path, ["b/0.png", "outside.png"])
    with pytest.raises(ValueError, match=r"outside.png lies in no class folder"):
        DomainImages(tmp_path, img_size=16)
    one = {"labels": [["a/0.png", 0], ["a/1.png", 0], ["b/0.png", 0], ["outside.png", 0]]}
    (tmp_path / "dataset.json").write_text(json.dumps(one))
    with pytest.raises(ValueError, match="holds one domain only, '0'"):
        DomainImages(tmp_path, img_size=16)
    vectors = {"labels": [[name, [0.5]] for name, _ in one["labels"]]}
    (tmp_path / "dataset.json").write_text(json.dumps(vectors))
    with pytest.raises(ValueError, match="has vectors as labels"):
        DomainImages(tmp_path, img_size=16)
