"""Packs the inputs of a job into one small folder: images as large and good as the limit allows."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ganmod.data.files import ImageFiles
from ganmod.data.labels import find_labels
from ganmod.data.pack import fit
from ganmod.features.vgg import NORMALISED_INDEX, load_features
from ganmod.io.images import list_images, read_image, resize_short_side
from metrics.features.pretrained import PRETRAINED, load_feature_space
from released.inputs import CONTENTS, EVALUATION, FACES, FEATURES, STYLES, WHEELS, Inputs
from released.jobs import MB
from training.style.build import find_images

# Tried in this order, (share of the short side asked for, quality): first quality goes, then size.
LADDER = [
    *((1.0, q) for q in (90, 85, 80, 75, 70, 65)),
    *((0.9, q) for q in (75, 70, 65)),
    *((0.8, q) for q in (75, 70, 65)),
    *((0.75, q) for q in (70, 65, 60)),
    *((0.7, q) for q in (65, 60, 55)),
]
SAMPLE = 150  # images from which a total is estimated
EVALUATION_SIDE, EVALUATION_QUALITY = 512, 95
# (share of the side asked for, quality): what has the size already is first taken as it is, byte for byte.
FACE_LADDER = ((1.0, None), (1.0, 90), (1.0, 80), (0.5, 95), (0.5, 85))
FACE_QUALITY = 95  # of those that have another size, where the others are taken as they are
PYTHON, PLATFORM = "3.12", "manylinux2014_x86_64"
# What a machine with torch, torchvision, numpy, scipy and scikit-image may lack; the two last are 50 MB.
WHEEL_NAMES = (
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "typing-extensions",
    "click",
    "pyyaml",
    "safetensors",
    "tqdm",
)


def pack(
    out: Path,
    *,
    content: Sequence[str],
    style: Sequence[str],
    exclude: Sequence[str],
    pairs: Path,
    every: int,
    faces: Path | None = None,
    face_size: int = 128,
    notice: str | None = None,
    feature_networks: Mapping[str, str | None],
    wheels: Sequence[str],
    short_side: int,
    image_format: str,
    limit: int,
) -> dict[str, int]:
    """Write the folder `out`, replacing it -> {part: bytes}, with their "total".

    content, style: folders; exclude: files of names to leave out, beside the held-out images, of which every
    `every`-th content and style of the JSON file `pairs` is taken. Without both, nothing for style transfer
    is packed. faces: folder or zip with a folder per class; face_size: their side in pixels, half of it where
    the limit asks for that; notice: their source and licence, which every record then repeats.
    feature_networks: {name: path, or None for where load_features finds it}. limit: bytes. Raises ValueError,
    with the parts' sizes, above it.
    """
    if bool(content) != bool(style) or not (content or faces):
        raise ValueError("expected --content and --style, --faces, or all three: style transfer needs both")
    chosen = json.loads(pairs.read_text()) if content else {"contents": [], "styles": []}
    names = {what: chosen[what][::every] for what in ("contents", "styles")}
    everything = {path.name: path for folder in [*style, *content] for path in list_images(folder)}
    missing = [name for group in names.values() for name in group if name not in everything]
    if missing:
        raise ValueError(
            f"{', '.join(missing[:5])}: in {pairs}, but in none of the folders given: add their folder with "
            "--content or --style"
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)

    features = _pack_features(out / FEATURES, feature_networks)
    if wheels:
        download_wheels(out / WHEELS, wheels)
    about: dict[str, str | int] = {}
    margin = 4_000  # the manifest, and the folders' own lines
    if faces is not None:
        about |= _pack_faces(out / FACES, faces, face_size, limit - margin - sum(_sizes(out).values()))
        about |= {"faces_notice": notice} if notice else {}
    if content:
        evaluated = {
            f"{what}/{name}": _evaluation_image(everything[name]) for what in names for name in names[what]
        }
        _write_zip(out / EVALUATION, evaluated.items())
        others = _sizes(out)
        used = {name for group in names.values() for name in group}
        training = {
            archive: [path for path in find_images(list(folders), list(exclude)) if path.name not in used]
            for archive, folders in ((CONTENTS, content), (STYLES, style))
        }
        budget = limit - sum(others.values()) - margin
        about |= {"format": image_format}
        for side, quality in _fitting(training, short_side, image_format, budget):
            for archive, paths in training.items():
                _write_zip(out / archive, _encoded(paths, side, image_format, quality))
                about[f"images in {archive}"] = len(paths)
            if sum(_sizes(out).values()) <= sum(others.values()) + budget:
                break
        about |= {"short_side": side, "quality": quality}
    Inputs(features, names["contents"], names["styles"], about).write(out)
    sizes = _sizes(out)
    sizes["total"] = sum(sizes.values())
    if sizes["total"] > limit:
        raise ValueError(_too_large(sizes, limit))
    return sizes


def describe(sizes: Mapping[str, int]) -> str:
    """The parts' sizes in one line."""
    return ", ".join(f"{name} {size / MB:.2f} MB" for name, size in sizes.items())


def download_wheels(folder: Path, names: Sequence[str]) -> None:
    """Wheels for PYTHON on PLATFORM; of packages that are installed here, the same version.

    So pydantic and pydantic-core fit each other, although every package is fetched without what it needs.
    """
    wanted = []
    for name in names:
        try:
            wanted.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            wanted.append(name)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", PYTHON, "--implementation", "cp", "--platform", PLATFORM]
    command += ["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_17_x86_64"]
    done = subprocess.run([*command, "--dest", str(folder), *wanted], capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"pip could not fetch the wheels {', '.join(wanted)}: {done.stderr.strip()[-500:]}")


def compact_vgg19(path: str | None, file: Path) -> None:
    """VGG-19 up to relu4_1 in half precision, in vgg_normalised.pth's layout, which load_features reads."""
    network = load_features("vgg19", path=path)
    state = network.state_dict()
    tensors = {f"0.{part}": state[f"conv0.{part}"] for part in ("weight", "bias")}
    for name, index in NORMALISED_INDEX.items():
        for part in ("weight", "bias"):
            tensors[f"{index}.{part}"] = state[f"convs.{name}.{part}"]
    torch.save({name: tensor.half().contiguous() for name, tensor in tensors.items()}, file)


def _pack_features(folder: Path, networks: Mapping[str, str | None]) -> dict[str, str]:
    folder.mkdir()
    files = {}
    for name, path in networks.items():
        if name == "vgg19":
            files[name] = "vgg19.pth"
            compact_vgg19(path, folder / files[name])
            continue
        if path is None:
            raise ValueError(f"feature network {name!r} needs its file: --feature-network {name}=PATH")
        # A wrong file should fail here, not on the borrowed machine.
        if name in PRETRAINED:
            source = Path(path)
            load_feature_space(name, source)
        else:
            source = Path(path) / "4SE.pth" if Path(path).is_dir() else Path(path)
            load_features(name, path=source)
        files[name] = name + source.suffix
        shutil.copyfile(source, folder / files[name])
    return files


def _pack_faces(path: Path, source: Path, size: int, budget: int) -> dict[str, str | int]:
    """Write faces.zip, CLASS/NUMBER.jpeg, at the first step of FACE_LADDER that fits, or the last -> about.

    Every image is cut to its middle square and brought to one size.
    """
    files = ImageFiles(source)
    labels = find_labels(files)
    folders = (
        [""] * len(files.names)
        if labels is None or not labels.names
        else [f"{labels.names[value]}/" for value in labels.values]
    )
    for share, quality in FACE_LADDER:
        side = round(size * share)
        members = (
            (f"{folder}{i:05d}.jpeg", _face(files, name, side, quality))
            for i, (folder, name) in enumerate(zip(folders, files.names, strict=True))
        )
        _write_zip(path, members)
        if path.stat().st_size <= budget:
            break
    return {
        "faces": len(files.names),
        "face_size": side,
        "face_quality": "as they were" if quality is None else quality,
    }


def _face(files: ImageFiles, name: str, side: int, quality: int | None) -> bytes:
    image = files.read(name)
    if quality is None and image.shape[:2] == (side, side) and name.lower().endswith((".jpg", ".jpeg")):
        return files.read_bytes(name)
    return _encode(fit(image, (side, side)), "jpeg", FACE_QUALITY if quality is None else quality)


def _fitting(
    training: Mapping[str, list[Path]], short_side: int, image_format: str, budget: int
) -> Iterator[tuple[int, int]]:
    """(short side, quality) as in LADDER, from the first on at which the images are likely to fit; always the
    last one.
    """
    paths = [path for group in training.values() for path in group]
    sample = paths[:: max(len(paths) // SAMPLE, 1)]
    pixels = [read_image(path) for path in sample]
    for number, (share, quality) in enumerate(LADDER, start=1):
        side = round(short_side * share)
        total = sum(len(_encode(_reduced(image, side), image_format, quality)) + 120 for image in pixels)
        if total / len(sample) * len(paths) <= budget or number == len(LADDER):
            yield side, quality


def _too_large(sizes: Mapping[str, int], limit: int) -> str:
    return (
        f"the inputs need more than {limit / MB:g} MB: {describe(sizes)}. Leave out a part, give fewer "
        "images or a smaller --short-side"
    )


def _encoded(
    paths: Iterable[Path], side: int, image_format: str, quality: int
) -> Iterator[tuple[str, bytes]]:
    """(name in the zip, encoded image)."""
    for i, path in enumerate(paths):
        yield f"{i:05d}.{image_format}", _encode(_reduced(read_image(path), side), image_format, quality)


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    return resize_short_side(image, side) if min(image.shape[:2]) > side else image


def _encode(image: np.ndarray, image_format: str, quality: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format=image_format, quality=quality)
    return buffer.getvalue()


def _evaluation_image(path: Path) -> bytes:
    """The file as it is, unless it is larger than evaluation needs."""
    image = read_image(path)
    if min(image.shape[:2]) <= EVALUATION_SIDE:
        return path.read_bytes()
    return _encode(resize_short_side(image, EVALUATION_SIDE), "jpeg", EVALUATION_QUALITY)


def _write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)  # without the time: equal inputs, equal bytes


def _sizes(folder: Path) -> dict[str, int]:
    """{entry of the folder: bytes}."""
    return {
        entry.name: sum(file.stat().st_size for file in [entry, *entry.rglob("*")] if file.is_file())
        for entry in sorted(folder.iterdir())
    }
