"""Tiny untrained style-transfer models of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganmod.features.vgg import VGGFeatures
from ganmod.modulation import list_modulations
from style_transfer import ModelSpec, StyleTransferModel, build

WIDTHS = (4, 4, 6, 8)
SIZE = 64
TRANSFORMS = ("transform-wct", "transform-match_moments")
KINDS = (
    *list_modulations("vector"),
    "classic",
    *(f"residual-{name}" for name in list_modulations("vector")),
    "johnson-adain",
    "johnson-adaconv",
    *TRANSFORMS,
)
LEARNED = ("johnson-cin", "residual-cin", "stylebank-stylebank")  # with the styles "a", "b" and "c"
NOT_EXPORTED = ("style_decorator", "style_swap", "wct")  # modulations without a form for it, which they say
EXPORTED = (*(kind for kind in KINDS if kind.rpartition("-")[2] not in NOT_EXPORTED), *LEARNED)


def make(kind: str, seed: int = 0, options: Mapping[str, Any] | None = None) -> StyleTransferModel:
    """A tiny untrained model; `kind` is a modulation (in the paper's architecture), of KINDS or LEARNED."""
    torch.manual_seed(seed)
    encoder = VGGFeatures(WIDTHS)
    # With PyTorch's initialisation the signal would vanish before relu4_1.
    for conv in encoder.convs.values():
        nn.init.kaiming_normal_(conv.weight)  # type: ignore[arg-type]
    host, _, name = kind.rpartition("-")
    if options is None:
        options = {"kernel_size": 1} if name == "adaconv" else {}
    spec = ModelSpec(
        "tiny",
        WIDTHS,
        architecture="classic" if kind == "classic" else host or "modulated",
        modulation="adaconv" if kind == "classic" else name,
        modulation_options=options,
        style_dim=5,
        style_image_size=SIZE,
        width=16,
        learned_styles=("a", "b", "c") if kind in LEARNED else (),
    )
    encoder.calibrate(torch.rand(1, 3, 64, 64))
    return build(spec, encoder).eval()


def tiny(kind: str) -> StyleTransferModel:
    """An untrained model, its style encoder calibrated."""
    if kind != "residual":
        return make(kind)
    torch.manual_seed(0)
    encoder = VGGFeatures(WIDTHS)
    for conv in encoder.convs.values():
        nn.init.kaiming_normal_(conv.weight)  # type: ignore[arg-type]
    encoder.calibrate(torch.rand(1, 3, 64, 64))
    spec = ModelSpec(
        "tiny", WIDTHS, architecture="residual", style_dim=5, style_image_size=SIZE, width=16, num_blocks=2
    )
    return build(spec, encoder).eval()


def decode_plainly(model: StyleTransferModel, x: Tensor) -> Tensor:
    """Decode features with a classic model's autoencoder, without a style."""
    params = model.predict(torch.zeros(1, 3, SIZE, SIZE))
    return model.decode(x, [p._replace(strength=torch.zeros(1, 1, 1, 1)) for p in params])
