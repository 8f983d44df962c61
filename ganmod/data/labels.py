"""Labels of images: from a dataset.json in the form of stylegan2-ada, or from the names of sub-folders."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ganmod.data.files import LABEL_FILE, ImageFiles, shared_folder

MAX_CLASSES = 100_000

LabelSource = Literal["auto", "folders", "none"]

# Folders such as 00000, 00001, ... hold a thousand images each; they are not classes.
_STORAGE_FOLDER = re.compile(r"\d{5}")


class Labels(NamedTuple):
    """Labels of images, in their order.

    values: int64 [num_images], each a class in 0..c_dim-1, or float32 [num_images, c_dim].
    names: one per class, empty for vectors.
    """

    values: np.ndarray
    c_dim: int
    names: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Images per class by its name, empty for vectors."""
        if not self.names:
            return {}
        counts = np.bincount(self.values, minlength=self.c_dim).tolist()
        return dict(zip(self.names, counts, strict=True))

    def subset(self, keep: Sequence[int]) -> Labels:
        """The labels of the images `keep`; classes and their names stay the same."""
        return self._replace(values=self.values[list(keep)])


def find_labels(files: ImageFiles, *, source: LabelSource = "auto") -> Labels | None:
    """Labels of all images, or None if there are none.

    Classes are numbered in the order of their folders' names. Folders inside a class, and one around all
    classes, are ignored.

    Args:
        files: the images.
        source: "auto" reads dataset.json; without that file, sub-folders are classes, unless images lie
            outside of them or they are numbered storage folders (00000, 00001, ...). "folders" takes any
            sub-folders and ignores dataset.json. "none" returns None.

    Raises:
        ValueError: for a malformed dataset.json; with "folders", for an image outside of any sub-folder.
    """
    if source == "none":
        return None
    file = files.label_file() if source == "auto" else None
    if file is not None:
        folder, text = file
        where = files.full_name(posixpath.join(folder, LABEL_FILE))
        return parse_labels(text, files.names, folder=folder, where=where)

    # The images of a packed folder may share its name as their first folder: the classes come after it.
    shared = shared_folder(files.names)
    inside = [posixpath.relpath(name, shared or ".") for name in files.names]
    outside = [name for name in inside if "/" not in name]
    if source == "folders" and outside:
        raise ValueError(
            f"{files.full_name(posixpath.join(shared, outside[0]))} lies in no class folder ({len(outside)} "
            "such images): expected two or more sub-folders, one per class, and every image inside one"
        )
    classes = sorted({name.split("/")[0] for name in inside})
    if source == "auto" and (outside or all(map(_STORAGE_FOLDER.fullmatch, classes))):
        return None
    numbers = {name: number for number, name in enumerate(classes)}
    values = np.array([numbers[name.split("/")[0]] for name in inside], dtype=np.int64)
    return Labels(values, len(classes), tuple(classes))


def parse_labels(text: str, names: Sequence[str], *, where: str, folder: str = "") -> Labels | None:
    """Labels of the images `names` from the text of a dataset.json as stylegan2-ada writes it.

    The form is {"labels": [["00000/img00000000.png", 3], ...]}, or "labels": null for none. A label is a
    class, an int from 0 on, or a list of floats, of one length for all. "label_names", an optional list of
    strings, names the classes; without it they have the names of their folders, if each has a different one,
    or their numbers.

    Args:
        text: content of the file.
        names: the images to label.
        where: path of the file, for messages.
        folder: the file's folder inside the data set; names in the file are relative to it.

    Raises:
        ValueError: names the file and the entry that is malformed.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where} is not JSON ({error}): repair it, or remove it and use sub-folders"
        ) from error
    if not isinstance(content, dict) or "labels" not in content:
        raise ValueError(f'{where} has no "labels": expected {{"labels": [["name.png", 0], ...]}}')
    if content["labels"] is None:
        return None

    by_name = _entries(content["labels"], folder, where)
    known = set(names)
    unknown = [name for name in by_name if name not in known]
    if unknown:
        raise ValueError(
            f"{where} labels {unknown[0]}, which is not among the {len(names)} images "
            f"({len(unknown)} such entries): remove them, or bring the images back"
        )
    missing = [name for name in names if name not in by_name]
    if missing:
        raise ValueError(
            f"{where} has no label for {missing[0]} ({len(missing)} of {len(names)} images): "
            "label all of them, or none"
        )
    labels = [by_name[name] for name in names]
    if isinstance(labels[0], list):
        return _vector_labels(labels, names, where)
    return _class_labels(labels, names, content.get("label_names"), where)


def _entries(entries: object, folder: str, where: str) -> dict[str, Any]:
    """[[name, label], ...] -> {full name: label}."""
    if not isinstance(entries, list):
        raise ValueError(f'{where}: "labels" is a {type(entries).__name__}, expected a list or null')
    by_name: dict[str, Any] = {}
    for position, entry in enumerate(entries):
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise ValueError(f'{where}: entry {position} is {entry!r:.80}, expected ["name.png", label]')
        name = posixpath.join(folder, entry[0].replace("\\", "/"))
        if by_name.setdefault(name, entry[1]) != entry[1]:
            raise ValueError(f"{where} gives {name} the labels {by_name[name]} and {entry[1]}: expected one")
    return by_name


def _vector_labels(labels: list[Any], names: Sequence[str], where: str) -> Labels:
    for name, label in zip(names, labels, strict=True):
        if not isinstance(label, list) or len(label) != len(labels[0]) or not label:
            raise ValueError(
                f"{where}: the label of {names[0]} is {labels[0]!r:.60} and that of {name} is {label!r:.60}: "
                "expected lists of one length, or ints, for all"
            )
        if not all(type(value) in (int, float) and math.isfinite(value) for value in label):
            raise ValueError(f"{where}: the label of {name} is {label!r:.60}, expected finite numbers")
    values = np.array(labels, dtype=np.float32)
    return Labels(values, values.shape[1], ())


def _class_labels(labels: list[Any], names: Sequence[str], label_names: object, where: str) -> Labels:
    for name, label in zip(names, labels, strict=True):
        if type(label) is not int or not 0 <= label < MAX_CLASSES:
            raise ValueError(
                f"{where}: the label of {name} is {label!r:.60}, expected a class from 0 to {MAX_CLASSES - 1}"
                + (", as for the images before it" if name != names[0] else ", or a list of floats")
            )
    values = np.array(labels, dtype=np.int64)
    c_dim = int(values.max()) + 1
    if label_names is None:
        return Labels(values, c_dim, _names_of_folders(values, names, c_dim))
    if not isinstance(label_names, list) or not all(isinstance(name, str) for name in label_names):
        raise ValueError(f'{where}: "label_names" is {label_names!r:.60}, expected a list of strings')
    if not c_dim <= len(label_names) <= MAX_CLASSES or len(set(label_names)) != len(label_names):
        raise ValueError(
            f'{where}: "label_names" holds {len(set(label_names))} different names in {len(label_names)}, '
            f"expected one of its own for each of the {c_dim} classes"
        )
    return Labels(values, len(label_names), tuple(label_names))


def _names_of_folders(values: np.ndarray, names: Sequence[str], c_dim: int) -> tuple[str, ...]:
    """The names of the folders if each holds exactly one class, otherwise the classes' numbers."""
    pairs = {(int(value), posixpath.dirname(name)) for value, name in zip(values, names, strict=True)}
    folders = {value: posixpath.basename(folder) for value, folder in pairs}
    one_to_one = len(pairs) == c_dim == len(set(folders.values()))
    if one_to_one and all(i and not _STORAGE_FOLDER.fullmatch(i) for i in folders.values()):
        return tuple(folders[number] for number in range(c_dim))
    return tuple(str(number) for number in range(c_dim))
