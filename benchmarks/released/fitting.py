"""The training of a released model: a fixed time on one device, everything on it, the average at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from configs.style import StyleRun
from ganmod.features.vgg import VGGFeatures
from released.crops import PairDrawer
from released.jobs import time_factor
from style_transfer import StyleTransferModel
from style_transfer.networks.residual_host import NOISE_SIDE
from training.ema import ema_decay, update_ema
from training.run.nonfinite import NonFiniteError
from training.style.build import build_optimizers, same_network, style_transfer_losses

REPORT_SECONDS = 10.0
GRAPH_WARMUP = 3  # steps before a graph is captured: libraries choose their algorithms there

Gradients = Callable[[Tensor, Tensor], Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Fit:
    """The averaged weights by name, and what it took. left_out: steps whose gradients were not finite."""

    ema: dict[str, Tensor]
    steps: int
    images: int
    seconds: float
    left_out: int
    graph: bool


class FlatGradients:
    """The gradients of all parameters as parts of one tensor: what is done to all is one operation."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        start = 0
        for p in parameters:  # strides as the parameter's: the fused optimizers count on that
            p.grad = self.flat.as_strided(p.shape, p.stride(), start)
            start += p.numel()

    def clip_(self, max_norm: float | None) -> Tensor:
        """Bring the norm down to max_norm, those that are not finite to 0 -> bool []: were they finite?"""
        norm = self.flat.norm()
        finite = norm.isfinite()
        scale = 1.0 if max_norm is None else (max_norm / (norm + 1e-6)).clamp_max(1)
        self.flat.copy_(torch.where(finite, self.flat * scale, 0.0))
        return finite


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
    log: Callable[[str], None] = print,
) -> Fit:
    """Train until the deadline (of time.monotonic) or for `steps`; model and networks lie on their device.

    On CUDA in bfloat16; graph: with the forward and backward pass as one CUDA graph, or, where it cannot be
    captured, one by one. Raises NonFiniteError where no step between two reports had finite gradients, and
    ValueError without time or steps to train.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}, expected 1 or more")
    batch, clip = config.schedule.batch_size, config.optimizer.clip_grad_norm
    parameters = model.trainable()
    ema = {name: p.detach().clone() for name, p in parameters.items()}
    optimizers = list(build_optimizers(model, config.optimizer).values())
    gradients = FlatGradients(list(parameters.values()))
    compute = _gradients(config, model, network, second, gradients)
    content, style = _laid_out(pairs(batch), config)
    captured = _captured(compute, content, style, log) if graph and content.is_cuda else None
    compute = captured or compute

    finite = torch.zeros([], device=content.device)  # of the steps since the last report
    sums = torch.zeros(3, device=content.device)
    step = reported = left_out = 0
    begin = last_report = time.monotonic()
    if begin >= deadline:
        raise ValueError("no time is left for training: give more --minutes, or a smaller --reserve")
    while True:
        now = time.monotonic()
        share = (now - begin) / (deadline - begin)
        if steps is not None:
            share = max(share, step / steps)
        ended = share >= 1
        if step > reported and (ended or now - last_report >= REPORT_SECONDS):
            good = int(finite)  # waits for the device
            if good == 0:
                raise NonFiniteError(
                    f"gradients were not finite in all of the {step - reported} steps before step {step}: "
                    "lower optimizer.lr and optimizer.muon_lr (--set)"
                )
            now = time.monotonic()
            rate = (step - reported) / (now - last_report)
            total, content_loss, style_loss = (sums / good).tolist()
            log(
                f"{now - begin:5.0f} s  step {step}  {rate:.2f} steps/s  loss {total:.4f}  "
                f"content {content_loss:.4f}  style {style_loss:.4f}  lr x {time_factor(share):.2f}"
            )
            left_out += step - reported - good
            finite.zero_()
            sums.zero_()
            reported, last_report = step, now
        if ended:
            break

        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * time_factor(share)
        content, style = _laid_out(pairs(batch), config)
        losses = compute(content, style)
        ok = gradients.clip_(clip)
        sums += torch.where(ok, losses, 0.0)
        finite += ok
        for optimizer in optimizers:
            optimizer.step()
        decay = ema_decay(
            batch,
            step * batch,
            half_life_kimg=config.schedule.ema_half_life_kimg,
            rampup=config.schedule.ema_rampup,
        )
        update_ema(ema, parameters, decay)
        step += 1
    for p in parameters.values():
        p.grad = None
    seconds = time.monotonic() - begin
    return Fit(ema, step, step * batch, seconds, left_out, captured is not None)


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
    return dict(zip(("total", "content", "style"), torch.stack(found).mean(dim=0).tolist(), strict=True))


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


def captured(function: Callable[[], T], log: Callable[[str], None] = print) -> Callable[[], T] | None:
    """`function` as one CUDA graph, whose many small kernels start without Python; None if that fails.

    A call returns the tensors of the capture, with new values. Random numbers come from torch's default
    generator, which goes on from call to call; what is to be another input must be written into the tensors
    that the function reads.
    """
    try:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(GRAPH_WARMUP):
                function()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = function()
    except RuntimeError as error:
        log(f"no CUDA graph ({str(error).splitlines()[0]}): steps are started one by one")
        return None

    def replay() -> T:
        graph.replay()
        return results

    return replay


def _captured(
    compute: Gradients, content: Tensor, style: Tensor, log: Callable[[str], None]
) -> Gradients | None:
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
