"""If this fails, a conditional model learns wrong classes, or a faulty label file is found out too late."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_images import ADA_NAMES, ada_zip, folder_of, picture, png, same, write_zip

from ganmod.data.files import ImageFiles
from ganmod.data.image_dataset import ImageDataset
from ganmod.data.labels import find_labels


def test_zip_of_stylegan2_ada_is_read(tmp_path: Path) -> None:
    data = ImageDataset(ada_zip(tmp_path / "a.zip", [[name, 2 - i // 2] for i, name in enumerate(ADA_NAMES)]))
    assert data.label_names == ("0", "1", "2")
    assert all(same(data.image(i), picture(i)) for i in range(4))
    assert data.label(0).tolist() == [0, 0, 1]
    assert data.label(3).tolist() == [0, 1, 0]
    assert data.label(0).dtype == torch.float32
    # "labels": null, or no dataset.json: the numbered folders are no classes.
    assert ImageDataset(ada_zip(tmp_path / "b.zip", None)).c_dim == 0
    plain = write_zip(tmp_path / "c.zip", {name: png(picture(i)) for i, name in enumerate(ADA_NAMES)})
    assert ImageDataset(plain).c_dim == 0


def test_vector_labels_names_of_classes_and_ignored_labels(tmp_path: Path) -> None:
    vectors = [[name, [i, 0.5, -1]] for i, name in enumerate(ADA_NAMES)]
    data = ImageDataset(ada_zip(tmp_path / "a.zip", vectors))
    assert (data.c_dim, data.label_names) == (3, ())
    assert data.label(2).tolist() == [2.0, 0.5, -1.0]
    classes = [[name, i % 2] for i, name in enumerate(ADA_NAMES)]
    path = ada_zip(tmp_path / "b.zip", classes, label_names=["cat", "dog", "none of these"])
    data = ImageDataset(path)
    assert data.label_names == ("cat", "dog", "none of these")
    assert data.label(1).tolist() == [0, 1, 0]
    assert ImageDataset(path, labels="none").c_dim == 0
    assert data.labels is not None
    assert data.labels.counts() == {"cat": 2, "dog": 2, "none of these": 0}


def test_classes_have_the_names_of_their_folders_where_each_has_its_own(tmp_path: Path) -> None:
    folder_of(tmp_path, ["dog/0.png", "cat/0.png", "cat/1.png"])

    def names(labels: dict[str, int]) -> tuple[str, ...]:
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": list(labels.items())}))
        return ImageDataset(tmp_path).label_names

    assert names({"dog/0.png": 0, "cat/0.png": 1, "cat/1.png": 1}) == ("dog", "cat")
    assert names({"dog/0.png": 0, "cat/0.png": 1, "cat/1.png": 0}) == ("0", "1")
    assert names({"dog/0.png": 0, "cat/0.png": 2, "cat/1.png": 2}) == ("0", "1", "2")


def test_labels_missing_for_a_conditional_run(tmp_path: Path) -> None:
    five = folder_of(tmp_path / "five", [f"{i}.png" for i in range(5)])
    for path in (five, ada_zip(tmp_path / "a.zip", None)):
        with pytest.raises(ValueError, match=r"has no labels.*sub-folder.*dataset\.json.*without labels"):
            ImageDataset(path, labels="required")
    with pytest.raises(ValueError, match="got labels='yes', expected auto, required or none"):
        ImageDataset(five, labels="yes")  # type: ignore[arg-type]


def test_sub_folders_by_force_leave_no_image_out(tmp_path: Path) -> None:
    numbered = folder_of(tmp_path / "d", ["00000/0.png", "00001/0.png"])
    assert find_labels(ImageFiles(numbered)) is None
    forced = find_labels(ImageFiles(numbered), source="folders")
    assert forced is not None
    assert (forced.values.tolist(), forced.names) == ([0, 1], ("00000", "00001"))
    folder_of(numbered, ["outside.png"])
    with pytest.raises(ValueError, match=r"outside\.png lies in no class folder"):
        find_labels(ImageFiles(numbered), source="folders")


LABELED = [[name, i] for i, name in enumerate(ADA_NAMES)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", 'has no "labels"'),
        ({"label": []}, 'has no "labels"'),
        ({"labels": {"a": 1}}, '"labels" is a dict, expected a list or null'),
        ({"labels": [*LABELED, "x"]}, r"entry 4 is 'x', expected \[\"name.png\", label\]"),
        ({"labels": [*LABELED, ["x.png", 0]]}, r"labels x\.png, which is not among the 4 images \(1 such"),
        ({"labels": LABELED[1:]}, r"no label for 00000/img00000000\.png \(1 of 4 images\)"),
        ({"labels": []}, r"no label for .* \(4 of 4 images\)"),
        ({"labels": [*LABELED, [ADA_NAMES[0], 1]]}, "the labels 0 and 1: expected one"),
        ({"labels": [*LABELED[:3], [ADA_NAMES[3], -1]]}, r"img00000003\.png is -1, expected a class from 0"),
        ({"labels": [*LABELED[:3], [ADA_NAMES[3], 10**12]]}, "expected a class from 0 to 99999"),
        ({"labels": [*LABELED[:3], [ADA_NAMES[3], True]]}, "is True, expected a class"),
        ({"labels": [*LABELED[:3], [ADA_NAMES[3], "cat"]]}, "is 'cat', expected a class"),
        ({"labels": [*LABELED[:3], [ADA_NAMES[3], [0.0]]]}, r"is \[0\.0\], expected a class"),
        (
            {"labels": [[n, [1.0] * (2 + (n == ADA_NAMES[2]))] for n in ADA_NAMES]},
            "expected lists of one length",
        ),
        ({"labels": [[n, []] for n in ADA_NAMES]}, "expected lists of one length"),
        ({"labels": [[n, [1.0, "x"]] for n in ADA_NAMES]}, "expected finite numbers"),
        ({"labels": [[n, [float("nan")]] for n in ADA_NAMES]}, "expected finite numbers"),
        ({"labels": LABELED, "label_names": "abcd"}, "expected a list of strings"),
        ({"labels": LABELED, "label_names": ["a", "b", "c"]}, "each of the 4 classes"),
        ({"labels": LABELED, "label_names": ["a", "b", "c", "a"]}, "3 different names in 4"),
    ],
)
def test_malformed_labels_are_refused_by_name(tmp_path: Path, content: Any, message: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    members: dict[str, bytes | str] = {name: png(picture(i)) for i, name in enumerate(ADA_NAMES)}
    path = write_zip(tmp_path / "a.zip", {**members, "dataset.json": text})
    with pytest.raises(ValueError, match=message) as caught:
        ImageDataset(path)
    assert "a.zip/dataset.json" in str(caught.value)
    assert len(str(caught.value)) < 600
    assert ImageDataset(path, labels="none").num_images == 4
