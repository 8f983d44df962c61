"""The training of a style-transfer model: on one device, everything on it, the average at the end."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from configs.style import StyleRun
from ganmod.features.vgg import VGGFeatures
from released.crops import PairDrawer
from released.jobs import time_factor
from released.timed_loop import FlatGradients, Log, Trained, captured, train_until
from style_transfer import StyleTransferModel
from style_transfer.networks.residual_host import NOISE_SIDE
from training.ema import ema_decay, update_ema
from training.style.build import build_optimizers
from training.style.losses import same_network, style_transfer_losses

LOSSES = ("total", "content", "style")
Gradients = Callable[[Tensor, Tensor], Tensor]


def fit(
    config: StyleRun,
    model: StyleTransferModel,
    network: VGGFeatures,
    pairs: PairDrawer,
    *,
    second: VGGFeatures | None = None,
    deadline: float,
    steps: int | None = None,
    graph: bool = True,
    log: Log = print,
) -> tuple[dict[str, Tensor], Trained, bool]:
    """Train until the deadline (of time.monotonic) or for `steps`; model and networks lie on their device.

    Returns the averaged weights by name, what it took, and whether steps were CUDA graphs. On CUDA in
    bfloat16; graph: with the forward and backward pass as one CUDA graph, or, where it cannot be captured,
    one by one. Raises as `train_until`.
    """
    batch, clip = config.schedule.batch_size, config.optimizer.clip_grad_norm
    parameters = model.trainable()
    ema = {name: p.detach().clone() for name, p in parameters.items()}
    optimizers = list(build_optimizers(model, config.optimizer).values())
    gradients = FlatGradients(list(parameters.values()))
    compute = _gradients(config, model, network, second, gradients)
    content, style = _laid_out(pairs(batch), config)
    graphed = _captured(compute, content, style, log) if graph and content.is_cuda else None
    compute = graphed or compute
    begin, factor = time.monotonic(), 0.0

    def step(nimg: int) -> tuple[Tensor, Tensor]:
        nonlocal factor
        share = (time.monotonic() - begin) / (deadline - begin)
        factor = time_factor(share if steps is None else max(share, nimg / (steps * batch)))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        losses = compute(*_laid_out(pairs(batch), config))
        ok = gradients.clip_(clip)
        for optimizer in optimizers:
            optimizer.step()
        half_life, rampup = config.schedule.ema_half_life_kimg, config.schedule.ema_rampup
        update_ema(ema, parameters, ema_decay(batch, nimg, half_life_kimg=half_life, rampup=rampup))
        return losses, ok

    trained = train_until(
        step,
        LOSSES,
        batch_size=batch,
        device=content.device,
        deadline=deadline,
        steps=steps,
        log=lambda line: log(f"{line}  lr x {factor:.2f}"),
    )
    for p in parameters.values():
        p.grad = None
    return ema, trained, graphed is not None


@torch.no_grad()
def losses_of(
    config: StyleRun,
    model: StyleTransferModel,
    network: VGGFeatures,
    pairs: tuple[Tensor, Tensor],
    *,
    second: VGGFeatures | None = None,
) -> dict[str, float]:
    """{"total", "content", "style"} of some pairs, in float32, one pair at a time."""
    shared = same_network(model.encoder, network)
    found = [
        torch.stack(style_transfer_losses(model, network, config.loss, c, s, second=second, shared=shared))
        for c, s in zip(*(x.split(1) for x in _laid_out(pairs, config)), strict=True)
    ]
    return dict(zip(LOSSES, torch.stack(found).mean(dim=0).tolist(), strict=True))


def _gradients(
    config: StyleRun,
    model: StyleTransferModel,
    network: VGGFeatures,
    second: VGGFeatures | None,
    gradients: FlatGradients,
) -> Gradients:
    """(contents, styles) -> losses [3]; the gradients are set."""
    shared = same_network(model.encoder, network)

    def compute(content: Tensor, style: Tensor) -> Tensor:
        gradients.flat.zero_()
        origin = torch.randint(NOISE_SIDE, (2,), device=content.device)
        # The cache of weights in half precision would outlive a captured step.
        with torch.autocast(
            content.device.type, torch.bfloat16, enabled=content.is_cuda, cache_enabled=False
        ):
            terms = style_transfer_losses(
                model, network, config.loss, content, style, second=second, shared=shared, origin=origin
            )
        terms.total.backward()
        return torch.stack([term.detach().float() for term in terms])

    return compute


def _captured(compute: Gradients, content: Tensor, style: Tensor, log: Log) -> Gradients | None:
    """`compute` as one CUDA graph; None if that fails."""
    content, style = content.clone(), style.clone()
    replay = captured(lambda: compute(content, style), log)
    if replay is None:
        return None

    def run(new_content: Tensor, new_style: Tensor) -> Tensor:
        content.copy_(new_content)
        style.copy_(new_style)
        return replay()

    return run


def _laid_out(pairs: tuple[Tensor, Tensor], config: StyleRun) -> tuple[Tensor, Tensor]:
    layout = torch.channels_last if config.runtime.channels_last else torch.contiguous_format
    content, style = (x.contiguous(memory_format=layout) for x in pairs)
    return content, style
