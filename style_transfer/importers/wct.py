"""WCT's encoders and decoders, in the files of Collaborative-Distillation, as a cascade."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ganmod.features.vgg import VGGFeatures
from ganmod.io.pickles.restricted_unpickle import read_tensors_pickle
from style_transfer.model import StyleTransferModel
from style_transfer.networks.cascade_host import CascadeDecoder, LevelAutoencoder, level_convs
from style_transfer.spec import ModelSpec

LEVELS = (1, 2, 3, 4, 5)


def import_wct(folder: Path, *, modulation: str = "wct") -> StyleTransferModel:
    """Build the cascade from 1SE.pth to 5SE.pth (encoders) and 1SD.pth to 5SD.pth (decoders).

    Files of the deepest levels may be missing: the cascade then begins at the deepest that is there. Nothing
    in the files is executed.

    Args:
        folder: with the files of Collaborative-Distillation (Wang et al. 2020; MIT).
        modulation: a transform of the kind features.

    Raises:
        ValueError: for a folder without the first level, missing tensors and wrong shapes.
        ModelFileError: for a file that is no PyTorch checkpoint.
        UnsafePickleError: for a file that holds more than tensors and numbers.
    """
    states = {}
    for level in LEVELS:
        files = folder / f"{level}SE.pth", folder / f"{level}SD.pth"
        if not all(file.is_file() for file in files):
            break
        states[level] = [_read(file) for file in files]
    if not states:
        raise ValueError(
            f"{folder} has no 1SE.pth and 1SD.pth: expected the stage files of Collaborative-Distillation's "
            "compressed VGG-19, an encoder nSE.pth and a decoder nSD.pth for each level n"
        )
    widths = tuple(_widths(encoder, level, folder) for level, (encoder, _) in states.items())
    spec = ModelSpec("none", (1, 1, 1, 1), architecture="cascade", modulation=modulation, levels=widths)
    unused = VGGFeatures((1, 1, 1, 1))  # each level has an encoder of its own
    for parameter in unused.parameters():
        nn.init.zeros_(parameter)
    model = StyleTransferModel(spec, unused)
    decoder = cast(CascadeDecoder, model.decoder)
    for level, autoencoder in zip(reversed(states), decoder.levels, strict=True):
        for part, state in zip(("encoder", "decoder"), states[level], strict=True):
            network = cast(LevelAutoencoder, autoencoder).get_submodule(part)
            wanted = network.state_dict()
            given = {name: x for name, x in state.items() if "_aux" not in name}
            for name, x in wanted.items():
                if name not in given or given[name].shape != x.shape:
                    found = list(given[name].shape) if name in given else "none"
                    raise ValueError(
                        f"{folder}, level {level}, {part}: {name} has shape {found}, expected {list(x.shape)}"
                    )
            network.load_state_dict({name: given[name] for name in wanted})
    return model.eval()


def _read(file: Path) -> Mapping[str, Tensor]:
    state = read_tensors_pickle(file)
    state = state.get("model", state)
    if not isinstance(state, Mapping):
        raise ValueError(f"{file} holds no tensors by name under 'model'")
    return {name: x.float() for name, x in state.items() if isinstance(x, torch.Tensor)}


def _widths(encoder: Mapping[str, Tensor], level: int, folder: Path) -> tuple[int, ...]:
    """Channels of each scale of an encoder."""
    firsts = {int(m[1]): x for name, x in encoder.items() if (m := re.fullmatch(r"conv(\d)1\.weight", name))}
    missing = [scale for scale in range(1, level + 1) if scale not in firsts]
    if missing:
        names = ", ".join(name for name, _, _ in level_convs((1,) * level))
        raise ValueError(
            f"{folder}/{level}SE.pth has no conv{missing[0]}1.weight: expected the convolutions {names}"
        )
    return tuple(len(firsts[scale]) for scale in range(1, level + 1))
