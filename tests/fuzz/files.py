"""Strategies of hostile files, each with a command that reads it."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import foreign_stylegan2 as foreign
import numpy as np
import pytest
import torch
import yaml
from hypothesis import strategies as st

from tests.fuzz import values as v
from tests.fuzz.lines import SMALL_RUN


class HostileFile(NamedTuple):
    """A file's name and bytes, and the arguments of a command that reads it."""

    name: str
    data: bytes
    arguments: list[str]


READERS = {
    "stylegan2": [
        *["generate FILE --seeds 0 -o out"] * 4,
        f"train stylegan2 --config stylegan2-smoke --data images.zip --transfer FILE --out run {SMALL_RUN}",
        "project FILE image.png --crop --steps 1 --features ganmod-slim -o out",
        "compare runs FILE --data images.zip --features ganmod-slim --metrics fid --num 4 -o out",
    ],
    "style": [
        *["stylize image.png image.jpeg --model FILE -o o.png"] * 2,
        "stylize image.png learned:a --model FILE -o o.png",
    ],
    "starganv2": ["translate FILE --source image.png --latent 0 --domain cat -o o.png"],
    "latents": ["generate stylegan2.safetensors --ws FILE -o out"],
    "pickle": [
        *["import stylegan2-ada FILE -o out.safetensors"] * 2,
        "import stylegan2-rosinality FILE -o out.safetensors",
        "import starganv2 FILE -o out.safetensors",
        "import adain FILE FILE -o out.safetensors",
        "fid images.zip images.zip --features squeezenet1_1 --feature-weights FILE",
        "project stylegan2.safetensors image.png --crop --features vgg19-slim --feature-weights FILE -o o",
        "generate FILE --seeds 0 -o out",
    ],
    "checkpoint": [
        f"train stylegan2 --config stylegan2-smoke --data images.zip --out run {SMALL_RUN}",
    ],
    "config": [f"train {recipe} --config FILE --dry-run" for recipe in ("style", "stylegan2", "starganv2")],
    "zip": ["data info FILE --verify", "data pack FILE out.zip", "data info FILE --json"],
    "image": ["stylize FILE image.png --size 32 -o o.png", "stylize image.png FILE --size 32 -o o.png"],
}


def hostile_files(seeds: Path) -> st.SearchStrategy[HostileFile]:
    """Files of all kinds, from the valid ones in a folder."""
    return st.one_of(
        _models(seeds), _models(seeds), _pickles(seeds), _pickles(seeds), _checkpoints(seeds), _latents(),
        _configurations(seeds), _archives(seeds), _images(seeds),
    )  # fmt: skip


def _read_by(draw: st.DrawFn, kind: str, name: str, data: bytes) -> HostileFile:
    line = draw(st.sampled_from(READERS[kind]))
    return HostileFile(name, data, line.replace("FILE", name).split())


def _changed(draw: st.DrawFn, value: Any) -> Any:
    """A value of JSON with one entry, at any depth, replaced, added or removed."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value, key=str)))
        action = draw(st.integers(0, 9))
        if action == 0:
            return {k: x for k, x in value.items() if k != key}
        if action == 1:
            return value | {draw(v.TEXTS): draw(v.VALUES)}
        return value | {key: _changed(draw, value[key])}
    return draw(st.one_of(v.NUMBERS, v.VALUES))


def _safetensors(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@st.composite
def _models(draw: st.DrawFn, seeds: Path) -> HostileFile:
    source = draw(st.sampled_from([p for p in sorted(seeds.glob("*.safetensors")) if p.stem != "latents"]))
    kind = source.stem.split("-")[0].replace("classes", "stylegan2")
    data = source.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    what = draw(st.sampled_from(["config", "config", "config", "metadata", "header", "plugin", "bytes"]))
    config = json.loads(header["__metadata__"]["config"])
    if what == "config":
        for _ in range(draw(st.integers(1, 2))):
            config = _changed(draw, config)
        header["__metadata__"]["config"] = json.dumps(config)
    elif what == "metadata":
        header["__metadata__"] = _changed(draw, header["__metadata__"])
    elif what == "plugin":
        config["plugins"] = {"half_adain": "canary_plugin"}
        header["__metadata__"]["config"] = json.dumps(
            config | {"plugins": draw(st.sampled_from([config["plugins"], 3]))}
        )
    elif what == "header":
        names = sorted(header.keys() - {"__metadata__"})
        name = draw(st.sampled_from(names))
        key = draw(st.sampled_from(["dtype", "shape", "data_offsets", "name"]))
        other = draw(st.sampled_from(["F64", "F16", "C64", "I64", "BOOL", "F8_E4M3", "F4"]))
        if key == "name":
            header[draw(v.TEXTS)] = header.pop(name)
        else:
            header[name][key] = other if key == "dtype" else draw(v.VALUES)
    data = _safetensors(header, body)
    if what == "bytes":
        data = draw(v.damaged(data))
    return _read_by(draw, kind, "m.safetensors", data)


@st.composite
def _pickles(draw: st.DrawFn, seeds: Path) -> HostileFile:
    form = draw(
        st.sampled_from(["objects", "opcodes", "zip of opcodes", "damaged", "network", "state", "bomb"])
    )
    if form == "objects":
        data = _dump(draw, draw(v.objects()))
    elif form in ("opcodes", "zip of opcodes"):
        data = draw(v.opcodes())
        data = data if form == "opcodes" else _torch_zip(data)
    elif form == "damaged":
        source = draw(st.sampled_from(["ada.pkl", "rosinality.pt", "official.ckpt", "weights.pth"]))
        data = draw(v.damaged((seeds / source).read_bytes()))
    elif form == "network":
        data = draw(_networks())
    elif form == "state":
        source = draw(st.sampled_from(["rosinality.pt", "official.ckpt", "weights.pth"]))
        state = torch.load(seeds / source, weights_only=True)
        inner = draw(st.sampled_from([state, *(x for x in state.values() if isinstance(x, dict))]))
        for key in draw(st.lists(st.sampled_from(sorted(inner)), min_size=1, max_size=3)):
            inner[key] = draw(st.one_of(v.objects(), v.tensors()))
        inner[draw(st.one_of(v.TEXTS, st.integers()))] = draw(v.tensors())
        data = _dump(draw, state)
    else:
        data = _torch_zip(draw(st.sampled_from([b"\x8f", b"]", b"0" * 9, b"\0"])) * (40 << 20), packed=True)
    return _read_by(draw, "pickle", draw(st.sampled_from(["n.pkl", "n.pth"])), data)


def _dump(draw: st.DrawFn, value: Any) -> bytes:
    form = draw(st.sampled_from(["zip", "legacy", "raw"]))
    buffer = io.BytesIO()
    protocol = draw(st.integers(2, 5))
    try:
        if form == "raw":
            return pickle.dumps(value, protocol=draw(st.integers(0, 5)))
        torch.save(value, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=form == "zip")
    except Exception:  # such as a value nested too deep for pickle itself, or a lone surrogate
        return pickle.dumps(None)
    return buffer.getvalue()


def _torch_zip(pickled: bytes, *, packed: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", "little")
    return buffer.getvalue()


@st.composite
def _networks(draw: st.DrawFn) -> bytes:
    """A pickle of StyleGAN2-ADA with strange attributes or tensors in some layer."""
    torch.manual_seed(0)
    network = foreign.generator(c_dim=draw(st.sampled_from([0, 2])))
    for _ in range(draw(st.integers(1, 3))):
        layer = network
        while layer.children and draw(st.integers(0, 3)):
            layer = layer.children[draw(st.sampled_from(sorted(layer.children)))]
        held = draw(st.sampled_from([layer.attributes, layer.parameters, layer.buffers, layer.children]))
        if held:
            name = draw(st.sampled_from(sorted(held)))
            if held is layer.children:
                del held[name]
            else:
                held[name] = draw(v.VALUES if held is layer.attributes else v.tensors())
    with pytest.MonkeyPatch.context() as patch:
        foreign.install_official_modules(patch)
        source = f"open({v.CANARY!r}, 'w')"
        return foreign.ada_pickle({"G_ema": network, "G": None, "D": None}, source=source)


@st.composite
def _checkpoints(draw: st.DrawFn, seeds: Path) -> HostileFile:
    """A checkpoint of a run, of plain values and with a sound checksum, in which some are another run's."""
    content = torch.load(seeds / "checkpoint.pt", weights_only=True)
    for _ in range(draw(st.integers(1, 2))):
        inner = content if draw(st.integers(0, 4)) == 0 else content["state"]
        while isinstance(inner, dict) and inner:
            key = draw(st.sampled_from(sorted(inner, key=str)))
            if not isinstance(inner[key], dict) or draw(st.integers(0, 2)) == 0:
                inner[key] = draw(st.one_of(v.NUMBERS, v.VALUES, v.tensors()))
                break
            inner = inner[key]
        content = content if isinstance(content.get("state"), dict) else {**content, "state": {}}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return _read_by(draw, "checkpoint", f"run/checkpoint-{8:09d}.pt", buffer.getvalue())


@st.composite
def _latents(draw: st.DrawFn) -> HostileFile:
    form = draw(st.sampled_from(["arrays", "header", "bomb", "object"]))
    buffer = io.BytesIO()
    if form == "bomb":
        np.savez_compressed(buffer, w=np.zeros((1 << draw(st.integers(4, 24)), 6, 5), np.uint8))
        return _read_by(draw, "latents", "l.npz", buffer.getvalue())
    arrays = io.BytesIO()
    if form == "object":
        np.save(arrays, np.array([draw(v.CALLS)], dtype=object), allow_pickle=True)
    else:
        dtype = draw(st.sampled_from(["<f4", "<c8", ">f8", "<U9", "|V4", "<M8[s]", "|b1", "<f2"]))
        np.save(arrays, np.zeros(draw(st.lists(st.integers(0, 6), max_size=4)), dtype))
    data = arrays.getvalue()
    if form == "header":
        shape = draw(st.sampled_from([(1 << 40, 6, 5), (-1, 6, 5), (1 << 62, 1 << 62), (2.0, 6, 5), "x"]))
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
        data = b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + bytes(120)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(draw(st.sampled_from(["w.npy", "ws.npy", "noise_0.npy", "../canary.npy"])), data)
    data = buffer.getvalue()
    return _read_by(draw, "latents", "l.npz", draw(v.damaged(data)) if draw(st.booleans()) else data)


YAML_TEXTS = [
    "a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nmodel: *c",
    "a: &a {k: v}\nmodel: {<<: [*a, *a]}",
    "model: " + "[" * 5000,
    f"model: !!python/object/apply:os.system ['touch {v.CANARY}']",
    f"!!python/object/new:pathlib.Path ['{v.CANARY}']",
    *(
        "model: !!int ''",
        "model: !!timestamp x",
        "model: !!binary '*'",
        "? [1]\n: 2",
        "1: 2",
        "model: {1: 2}",
    ),
    *(
        "- 1",
        "",
        "null",
        "model:\n  ? {a: b}\n  : c",
        "x" * 9000,
        "model: {modulation: [" + "a, " * 9999 + "]}",
    ),
]


@st.composite
def _configurations(draw: st.DrawFn, seeds: Path) -> HostileFile:
    source = draw(st.sampled_from(sorted(seeds.glob("*.yaml"))))
    form = draw(st.sampled_from(["values", "values", "values", "text", "bytes"]))
    if form == "text":
        data = draw(st.sampled_from(YAML_TEXTS)).encode()
    elif form == "bytes":
        data = draw(v.damaged(source.read_bytes()))
    else:
        content = yaml.safe_load(source.read_text())
        for _ in range(draw(st.integers(1, 3))):
            content = _changed(draw, content)
        data = yaml.safe_dump(content).encode()
    return _read_by(draw, "config", "c.yaml", data)


@st.composite
def _archives(draw: st.DrawFn, seeds: Path) -> HostileFile:
    form = draw(st.sampled_from(["bytes", "labels", "names", "bomb"]))
    data = (seeds / "images.zip").read_bytes()
    if form == "bytes":
        return _read_by(draw, "zip", "z.zip", draw(v.damaged(data)))
    picture = (seeds / "image.png").read_bytes()
    if form == "labels":
        pairs = st.lists(st.tuples(st.sampled_from(["a/0.png", "x"]), v.VALUES), max_size=3)
        labels = draw(st.one_of(v.VALUES, pairs))
        texts = [json.dumps({"labels": labels}), json.dumps(labels), "[" * 100_000, "{", "\x00"]
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a/0.png", picture)
            archive.writestr("dataset.json", draw(st.sampled_from(texts)))
        return _read_by(draw, "zip", "z.zip", buffer.getvalue())
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        if form == "names":
            names = ["../canary", "/canary.png", "a/0.png", "a//b.png", "\x1b[31m.png", "a/" * 300 + "b.png"]
            archive.writestr(draw(st.sampled_from(names)), picture)
        else:
            bomb = draw(st.sampled_from(["a/9.png", "dataset.json"]))
            archive.writestr(bomb, picture + bytes(40 << 20))
    return _read_by(draw, "zip", "z.zip", buffer.getvalue())


def _png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@st.composite
def _images(draw: st.DrawFn, seeds: Path) -> HostileFile:
    source = draw(st.sampled_from(sorted(seeds.glob("image.*"))))
    if draw(st.integers(0, 4)):
        return _read_by(draw, "image", f"i{source.suffix}", draw(v.damaged(source.read_bytes())))
    sides = st.sampled_from([0, 1, 32, 5000, 20_000, 2**31 - 1])
    return _read_by(
        draw, "image", "i.png", _png(draw(sides), draw(sides), bytes(draw(st.integers(0, 10**6))))
    )
