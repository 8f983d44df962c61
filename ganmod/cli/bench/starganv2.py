"""Speed of a StarGAN v2 iteration for each modulation: as the training loop computes it, and the obvious way.

All forms run in turn in one process, so that other work on the machine burdens them alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.schema import load_starganv2_config
from ganmod.cli.bench.peak_memory import peak_since, run_in_new_process, start_peak
from ganmod.cli.bench.timing import Advance, interleaved_ms
from ganmod.layers import LRELU_SLOPE, RESIDUAL_GAIN, half_precision
from ganmod.modulation import (
    AdaConv,
    AdaConvParams,
    AdaIN,
    AdaINParams,
    WeightDemod,
    WeightDemodParams,
    modulation_per_resolution,
)
from ganmod.modulation.functional import adaconv
from ganmod.starganv2 import Generator, high_pass
from ganmod.starganv2.domain_networks import ImageTrunk, select_domain
from ganmod.starganv2.generator import HIGH_PASS_SIZES, DecoderBlock, DecoderLayer
from ganmod.starganv2.residual_block import ResidualBlock
from training.gan_losses import discriminator_loss, nonsaturating_generator_loss, r1_penalty
from training.starganv2.build import build_networks, build_optimizers, build_spec
from training.starganv2.losses import cycle_loss, diversity_loss, style_reconstruction_loss
from training.starganv2.step import (
    FirstOrder,
    GeneratorLosses,
    Networks,
    Samples,
    discriminator_phase,
    generator_phase,
)

OBVIOUS = "obvious"
DOMAINS = ("a", "b")


def obvious_generator(G: Generator, img: Tensor, style: Tensor) -> Tensor:
    """`Generator.forward` in its obvious form: every resampling on its own, AdaConv sample by sample."""
    x = G.from_rgb(img)
    skipped = {}
    for block in G.encode:
        assert isinstance(block, ResidualBlock)
        if G.spec.w_hpf > 0 and x.shape[2] in HIGH_PASS_SIZES:
            skipped[x.shape[2]] = x
        x = _residual_block(block, x)
    for block in G.decode:
        assert isinstance(block, DecoderBlock)
        size = x.shape[2] * (2 if block.up else 1)
        name = modulation_per_resolution(G.spec.modulation, [size])[size]
        x = _decoder_block(block, x, style, OBVIOUS_FORMS.get(name))
        if x.shape[2] in skipped:
            x = x + high_pass(skipped[x.shape[2]], G.spec.w_hpf)
    return G.to_rgb(F.leaky_relu(_instance_norm(x, G.norm), LRELU_SLOPE))


def obvious_style_encoder(networks: Networks, img: Tensor, domains: Tensor) -> Tensor:
    """`StyleEncoder.forward`, in the same manner."""
    features = _trunk(networks.style_encoder.trunk, img).flatten(1)
    codes = torch.stack([head(features) for head in networks.style_encoder.heads], dim=1)
    return select_domain(codes, domains)


def obvious_discriminator(networks: Networks, img: Tensor, domains: Tensor) -> Tensor:
    """`Discriminator.forward`, in the same manner."""
    return select_domain(networks.D.head(_trunk(networks.D.trunk, img)).flatten(2), domains)


def obvious_discriminator_phase(
    networks: Networks, samples: Samples, *, from_reference: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`discriminator_phase`, each network called where the published loss names it."""
    with torch.no_grad():
        style = _style(networks, samples, 0, from_reference=from_reference)
        fakes = obvious_generator(networks.G, samples.images, style)
    images = samples.images.detach().requires_grad_()
    real_logits = obvious_discriminator(networks, images, samples.domains)
    penalties = r1_penalty(real_logits, images)
    fake_logits = obvious_discriminator(networks, fakes, samples.targets)
    losses = discriminator_loss(real_logits, fake_logits)
    return losses, penalties, real_logits.detach(), fake_logits.detach()


def obvious_generator_phase(networks: Networks, samples: Samples, *, from_reference: bool) -> GeneratorLosses:
    """`generator_phase`, each network called where the published loss names it."""
    G, images, targets = networks.G, samples.images, samples.targets
    with torch.set_grad_enabled(not from_reference):
        style = _style(networks, samples, 0, from_reference=from_reference)
        own_style = obvious_style_encoder(networks, images, samples.domains)
    fakes = obvious_generator(G, images, style)
    with torch.no_grad():
        other_style = _style(networks, samples, 1, from_reference=from_reference)
        others = obvious_generator(G, images, other_style)
    return GeneratorLosses(
        nonsaturating_generator_loss(obvious_discriminator(networks, fakes, targets)),
        style_reconstruction_loss(obvious_style_encoder(networks, fakes, targets), style),
        diversity_loss(fakes, others),
        cycle_loss(obvious_generator(G, fakes, own_style), images),
    )


def _style(networks: Networks, samples: Samples, which: int, *, from_reference: bool) -> Tensor:
    if from_reference:
        return obvious_style_encoder(networks, samples.references[which], samples.targets)
    return networks.mapping(samples.latents[which], samples.targets)


def _trunk(trunk: ImageTrunk, x: Tensor) -> Tensor:
    x = trunk.from_rgb(x)
    for block in trunk.blocks:
        assert isinstance(block, ResidualBlock)
        x = _residual_block(block, x)
    return F.leaky_relu(trunk.last(F.leaky_relu(x, LRELU_SLOPE)), LRELU_SLOPE)


def _instance_norm(x: Tensor, norm: Any) -> Tensor:
    """With the learned scale and shift of `norm`; x itself where that is an identity."""
    if not hasattr(norm, "weight"):
        return x
    return F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=norm.eps)


def _residual_block(block: ResidualBlock, x: Tensor) -> Tensor:
    shortcut = block.skip(x)
    out = block.conv1(F.leaky_relu(_instance_norm(x, block.norm1), LRELU_SLOPE))
    if block.down:
        shortcut, out = F.avg_pool2d(shortcut, 2), F.avg_pool2d(out, 2)
    out = block.conv2(F.leaky_relu(_instance_norm(out, block.norm2), LRELU_SLOPE))
    return (shortcut + out) * RESIDUAL_GAIN


def _adain(modulation: AdaIN, x: Tensor, params: AdaINParams) -> Tensor:
    shift = params.shift[:, :, None, None]
    return F.instance_norm(x, eps=modulation.eps) * params.scale[:, :, None, None] + shift


def _adaconv(modulation: AdaConv, x: Tensor, params: AdaConvParams) -> Tensor:
    return adaconv(x, *params, normalize=modulation.normalize, eps=modulation.eps)


def _weight_demod(modulation: WeightDemod, x: Tensor, weight: Tensor, params: WeightDemodParams) -> Tensor:
    """With a weight for each sample."""
    weights = weight * params.scale[:, None, :, None, None]  # [N,O,C,3,3]
    if modulation.demodulate:
        squares = weights.square().sum(dim=(2, 3, 4), keepdim=True)
        weights = weights * (squares + modulation.eps).rsqrt()
    joined = x.flatten(0, 1)[None]  # [1,N*C,H,W]
    return F.conv2d(joined, weights.flatten(0, 1), padding=1, groups=len(x)).unflatten(1, (len(x), -1))[0]


class ObviousForm(NamedTuple):
    """A modulation as its paper writes it, in the steps of `Modulation`; None is its default step.

    Attributes:
        modulate: modulation, x [N,C,H,W], parameters -> [N,C,H,W].
        convolve: modulation, x [N,C,H,W], weight [O,C,3,3], parameters -> [N,O,H,W].
    """

    modulate: Callable[[Any, Tensor, Any], Tensor] | None = None
    convolve: Callable[[Any, Tensor, Tensor, Any], Tensor] | None = None


OBVIOUS_FORMS = {
    "adain": ObviousForm(modulate=_adain),
    "adaconv": ObviousForm(modulate=_adaconv),
    "weight_demod": ObviousForm(convolve=_weight_demod),
}


def _decoder_block(block: DecoderBlock, x: Tensor, style: Tensor, form: ObviousForm | None) -> Tensor:
    out = _decoder_layer(block.conv1, x, style, form, up=block.up)
    out = _decoder_layer(block.conv2, out, style, form)
    if not block.shortcut:
        return out
    return (block.skip(_enlarged(x) if block.up else x) + out) * RESIDUAL_GAIN


def _decoder_layer(
    layer: DecoderLayer, x: Tensor, style: Tensor, form: ObviousForm | None, *, up: bool = False
) -> Tensor:
    params, weight = layer.predict(style), layer.conv.weight
    if form is None:  # a custom modulation has one form only
        return layer.apply_params(x, params)
    if form.modulate is not None:
        x = form.modulate(layer.modulation, x, params)
    assert layer.between is not None
    x = layer.between(x)
    if up:
        x = _enlarged(x)
    if form.convolve is None:
        x = F.conv2d(x, weight, padding=1)
    else:
        x = form.convolve(layer.modulation, x, weight, params)
    return x + layer.bias[:, None, None]


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


@dataclass(frozen=True)
class IterationTime:
    """One form of an iteration: milliseconds, and how many times as fast as the obvious form it is.

    peak_mib: what it adds at most to the memory in use, in which networks and optimizers are already: to a
    process of its own on a CPU, to the allocator on a GPU; None where the system does not tell. deviation:
    the largest relative difference of a phase's loss from the obvious form's, from equal weights; between its
    small terms, such as the difference of two styles' images before training, rounding makes larger ones.
    """

    modulation: str
    form: str
    min_ms: float
    median_ms: float
    ratio_min: float
    ratio_median: float
    peak_mib: float | None
    deviation: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class StarGANv2Iteration:
    """The four phases of an iteration, each with its backward and optimizer step, on random images.

    form: "obvious", else as the training loop computes it, in "float32" or "bfloat16".
    """

    def __init__(
        self,
        modulation: str,
        form: str,
        *,
        preset: str,
        settings: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        config = load_starganv2_config(preset, {**settings, "model.modulation": modulation})
        self.config, self.device = config, device
        self.half_dtype = torch.bfloat16 if form == "bfloat16" else None
        layout = torch.contiguous_format if form == OBVIOUS else torch.channels_last
        torch.manual_seed(0)
        self.networks = build_networks(build_spec(config.model, DOMAINS))
        for network in self.networks:
            network.to(device, dtype).to(memory_format=layout)
        self.g_optimizer, self.d_optimizer = build_optimizers(self.networks, config.optimizer)
        first_order = FirstOrder.of(self.networks, compiled=False)
        self.d_phase: Callable[..., tuple[Tensor, ...]] = obvious_discriminator_phase
        self.g_phase: Callable[..., GeneratorLosses] = obvious_generator_phase
        if form != OBVIOUS:
            self.d_phase = lambda networks, *a, **k: discriminator_phase(networks, first_order, *a, **k)
            self.g_phase = lambda networks, *a, **k: generator_phase(networks, first_order, *a, **k)
        batch, size = config.schedule.batch_size, config.model.img_size

        def images() -> Tensor:
            pixels = torch.rand(batch, 3, size, size, device=device, dtype=dtype) * 2 - 1
            return pixels.contiguous(memory_format=layout)

        def latents() -> Tensor:
            return torch.randn(batch, config.model.latent_dim, device=device, dtype=dtype)

        domains = torch.arange(batch, device=device) % len(DOMAINS)
        self.samples = Samples(images(), domains, (images(), images()), (latents(), latents()), 1 - domains)

    def discriminator_losses(self, *, from_reference: bool) -> tuple[Tensor, Tensor]:
        """Adversarial loss and R1 penalty [N]; gradients reach the discriminator."""
        self.networks.D.requires_grad_(True)
        with half_precision(self.device, self.half_dtype):
            losses, penalties, *_ = self.d_phase(self.networks, self.samples, from_reference=from_reference)
        return losses, penalties

    def generator_losses(self, *, from_reference: bool) -> GeneratorLosses:
        """The four terms [N]; gradients reach the networks that the phase trains."""
        self.networks.D.requires_grad_(False)
        self.networks.style_encoder.requires_grad_(not from_reference)
        with half_precision(self.device, self.half_dtype):
            return self.g_phase(self.networks, self.samples, from_reference=from_reference)

    def total(self, losses: tuple[Tensor, Tensor] | GeneratorLosses) -> Tensor:
        """What a phase minimises, of what the two functions above return."""
        weights = self.config.loss
        if isinstance(losses, GeneratorLosses):
            return losses.total(
                style=weights.style_weight, diversity=weights.diversity_weight, cycle=weights.cycle_weight
            ).mean()
        return (losses[0] + weights.r1_gamma / 2 * losses[1]).mean()

    def losses(self) -> list[float]:
        """What the four phases minimise, without a step."""
        totals = [
            self.total(phase(from_reference=from_reference))
            for phase in (self.discriminator_losses, self.generator_losses)
            for from_reference in (False, True)
        ]
        return [total.item() for total in totals]

    def __call__(self) -> None:
        """One iteration."""
        for phase, optimizer in (
            (self.discriminator_losses, self.d_optimizer),
            (self.generator_losses, self.g_optimizer),
        ):
            for from_reference in (False, True):
                optimizer.zero_grad(set_to_none=True)
                self.total(phase(from_reference=from_reference)).backward()
                optimizer.step()
        self.d_optimizer.zero_grad(set_to_none=True)
        self.g_optimizer.zero_grad(set_to_none=True)


def compare_iterations(
    modulations: Sequence[str],
    *,
    forms: Sequence[str] = ("float32", "bfloat16"),
    preset: str = "starganv2-afhq",
    settings: dict[str, Any],
    repeats: int,
    device: torch.device,
    progress: Advance = lambda: None,
) -> list[IterationTime]:
    """Times of every modulation in the obvious form and in `forms`; one run of each is the warm-up."""
    rows = []
    for modulation in modulations:
        iterations = {
            form: StarGANv2Iteration(modulation, form, preset=preset, settings=settings, device=device)
            for form in (OBVIOUS, *forms)
        }
        deviations = {}
        expected = iterations[OBVIOUS].losses()
        for form, iteration in iterations.items():
            pairs = zip(iteration.losses(), expected, strict=True)
            deviations[form] = max(abs(a - b) / abs(b) for a, b in pairs)
            iteration()
            progress()
        times = interleaved_ms(iterations, repeats, device, progress)
        peaks = {form: _peak(modulation, form, preset, settings, device) for form in iterations}
        least, median = (
            {form: of(values) for form, values in times.items()} for of in (min, statistics.median)
        )
        rows += [
            IterationTime(
                modulation,
                form,
                least[form],
                median[form],
                least[OBVIOUS] / least[form],
                median[OBVIOUS] / median[form],
                peaks[form],
                deviations[form],
            )
            for form in iterations
        ]
    return rows


def _peak(
    modulation: str, form: str, preset: str, settings: dict[str, Any], device: torch.device
) -> float | None:
    """`IterationTime.peak_mib`; on a CPU in a new process."""
    if device.type == "cuda":
        return peak_of_iteration(modulation, form, preset, settings, device)
    return run_in_new_process(peak_of_iteration, modulation, form, preset, settings, device)


def peak_of_iteration(
    modulation: str, form: str, preset: str, settings: dict[str, Any], device: torch.device
) -> float | None:
    """MiB that an iteration adds to the memory in use, in this process, which has made none before."""
    iteration = StarGANv2Iteration(modulation, form, preset=preset, settings=settings, device=device)
    before = start_peak(device)
    iteration()
    return peak_since(before, device)
