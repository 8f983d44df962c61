"""The losses of a style-transfer run, and the features of styles that they compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.style import StyleLoss
from ganmod.features.spectrum_loss import spectrum_loss
from ganmod.features.style_losses import STYLE_LOSSES, Features, content_loss
from ganmod.features.vgg import VGGFeatures
from ganmod.modulation.statistics import match_statistics, mean_std
from style_transfer import StyleTransferModel
from style_transfer.networks.residual_host import Origin

MOST_KEPT = 64  # styles whose features are kept: about 20 MB each with VGG-19 at 192 pixels


class Losses(NamedTuple):
    total: Tensor
    content: Tensor
    style: Tensor


def same_network(first: VGGFeatures, second: VGGFeatures) -> bool:
    """Whether two feature networks hold the same values, so that what one computed serves for the other."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a)


def style_transfer_losses(
    model: StyleTransferModel,
    network: VGGFeatures,
    config: StyleLoss,
    content: Tensor,
    style: Tensor,
    *,
    second: VGGFeatures | None = None,
    shared: bool = False,
    origin: Origin = (0, 0),
    style_id: Tensor | None = None,
    style_targets: Sequence[Features] | None = None,
    autoencoder: bool = False,
) -> Losses:
    """Losses of stylized images in the features of `network`, averaged over the batch.

    content, style [N,3,H,W] in [0,1]. The classic model's content target is the content with the style's
    statistics (Huang & Belongie 2017, Eq. 12); the modulated models' is the content itself (Chandran et al.
    2021, Eq. 6). second: another network; the losses are the means of those in the features of both.
    shared: `network` is the model's encoder (`same_network`); content and style then pass through it once, as
    input and as target, if style images have the size that the model wants. origin: see
    `StyleTransferModel.encode`. style_id: [N], the learned style that each image of `style` shows.
    style_targets: their features in `network` and `second`, if already computed. autoencoder: StyleBank's
    autoencoder alone, see `StyleLoss.autoencoder_every`.
    """
    if autoencoder:
        return autoencoder_losses(model, config, content)
    classic = model.spec.architecture == "classic"
    # Statistics of a style are read at the size at which the loss compares them.
    prepared = style if classic or model.sees_whole_styles else model.prepare_style(style)
    with torch.no_grad():
        style_target = network.normalized(style) if style_targets is None else style_targets[0]
        target = network.normalized(content)
    if style_id is not None:
        params = model.predict(F.one_hot(style_id, len(model.spec.learned_styles)).to(content.dtype))
    elif shared and prepared.shape == style.shape:
        params = model.predict_from_features(style_target)
    else:
        params = model.predict(prepared)
    encoded = model.encode(content, target if shared else None, origin=origin)
    images = model.decode(encoded, params)

    terms = [_feature_losses(network.normalized(images), target, style_target, config, classic=classic)]
    if second is not None:
        with torch.no_grad():
            target = second.normalized(content)
            style_target = second.normalized(style) if style_targets is None else style_targets[1]
        terms.append(
            _feature_losses(second.normalized(images), target, style_target, config, classic=classic)
        )
    content_term, style_term = (torch.stack(both).mean() for both in zip(*terms, strict=True))
    total = config.content_weight * content_term + config.style_weight * style_term
    if config.reconstruction_weight > 0 and config.autoencoder_every is None:
        total = total + config.reconstruction_weight * (images - content).square().mean()
    if config.spectrum_weight > 0:
        total = total + config.spectrum_weight * spectrum_loss(images, style).mean()
    return Losses(total, content_term, style_term)


class WholeStyles:
    """The features of whole style images in some networks, kept for up to about `MOST_KEPT` styles."""

    def __init__(self, networks: Sequence[VGGFeatures]) -> None:
        self.networks = networks
        self._known: dict[int, list[Features]] = {}

    @torch.no_grad()
    def features(self, style: Tensor, style_id: Tensor) -> list[Features]:
        """Of images [N,3,S,S] that show the styles [N]: one {layer: [N,C,h,w]} per network."""
        ids = style_id.tolist()
        if len(self._known) > MOST_KEPT:
            self._known.clear()
        for image, number in zip(style.split(1), ids, strict=True):
            if number not in self._known:
                self._known[number] = [network.normalized(image) for network in self.networks]
        each = [self._known[number] for number in ids]
        return [
            {layer: torch.cat([features[k][layer] for features in each]) for layer in each[0][k]}
            for k in range(len(self.networks))
        ]


def autoencoder_losses(model: StyleTransferModel, config: StyleLoss, content: Tensor) -> Losses:
    """Of StyleBank's autoencoder (Chen et al. 2017, Eq. 3): the squared difference from the content's pixels.

    Filter banks take no part and get no gradient. Content and style loss are 0: they are not measured.
    """
    x = model.encode(content)
    for stage in range(1, model.decoder.num_stages):
        x = model.decoder.run_stage(stage, x, ())
    difference = (x - content).square().mean()
    return Losses(config.reconstruction_weight * difference, difference * 0, difference * 0)


def _feature_losses(
    stylized: Features, content: Features, style: Features, config: StyleLoss, *, classic: bool
) -> tuple[Tensor, Tensor]:
    """(content, style), averaged over the batch."""
    if classic:
        content = {
            "relu4_1": match_statistics(content["relu4_1"], *mean_std(style["relu4_1"], unbiased=True))
        }
    return content_loss(stylized, content).mean(), STYLE_LOSSES[config.style](stylized, style).mean()
