"""Speed of style transfer against its obvious form: a training iteration, the AdaConv op, cached styles.

Both forms of a comparison run in turn (A, B, A, B ...) in one process: other work on the machine slows both
down equally, and only the ratios are meaningful. Every comparison also measures how far the results differ.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.style import StyleLoss
from ganmod.cli.bench.timing import Advance, interleaved_ms
from ganmod.features.vgg import SLIM_WIDTHS, VGG19_WIDTHS, VGGFeatures, calibration_images
from ganmod.io.images import center_crop, resize_short_side, to_tensor
from ganmod.modulation.fast import fast_adaconv
from ganmod.modulation.functional import adaconv
from style_transfer import ModelSpec, StyleTransferModel, build
from style_transfer.networks.paper_host import ModulatedDecoder
from style_transfer.procedural_styles import builtin_contents, draw_style_set
from training.style.losses import Losses, same_network, style_transfer_losses

WIDTHS = {"full": VGG19_WIDTHS, "slim": SLIM_WIDTHS}
OP_BATCH = 4


@dataclass(frozen=True)
class Comparison:
    """Times in ms of two forms of a computation, a (the obvious one) and b; ratios are a / b.

    deviation: largest relative difference of the results; about 1e-6 in float32.
    """

    part: str
    case: str
    a: str
    b: str
    a_min_ms: float
    a_median_ms: float
    b_min_ms: float
    b_median_ms: float
    deviation: float

    @property
    def ratio_min(self) -> float:
        return self.a_min_ms / self.b_min_ms

    @property
    def ratio_median(self) -> float:
        return self.a_median_ms / self.b_median_ms

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio_min": self.ratio_min, "ratio_median": self.ratio_median}


def _compare(
    part: str, case: str, names: tuple[str, str], times: Mapping[str, list[float]], deviation: float
) -> Comparison:
    a, b = (times[name] for name in names)
    return Comparison(
        part, case, *names, min(a), statistics.median(a), min(b), statistics.median(b), deviation
    )


def largest_deviation(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference of a pair of tensors, relative to its largest expected value; maximum over pairs."""
    return max(
        ((x.double() - y.double()).abs().max() / y.double().abs().max().clamp_min(1e-30)).item()
        for x, y in zip(got, expected, strict=True)
    )


# ---------------------------------------------------------------------------------------------------------
# A training iteration.


def random_features(widths: tuple[int, ...], seed: int = 0) -> VGGFeatures:
    """A frozen, calibrated VGG-19 with Kaiming weights: the cost of the trained one, without its file."""
    torch.manual_seed(seed)
    network = VGGFeatures(widths)
    for conv in network.convs.values():
        nn.init.kaiming_normal_(conv.weight)  # type: ignore[arg-type]
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    network.calibrate(calibration_images())
    return network.requires_grad_(False).eval()


def random_model(widths: tuple[int, ...], *, style_dim: int, size: int, seed: int = 0) -> StyleTransferModel:
    """The untrained AdaConv model on a random encoder; the same weights for the same arguments.

    size: of style images, a multiple of 64.
    """
    w1, w2, w3, w4 = widths
    encoder = random_features(widths, seed)
    spec = ModelSpec("vgg19", (w1, w2, w3, w4), style_dim=style_dim, style_image_size=size)
    return build(spec, encoder)


def sample_batch(batch: int, size: int) -> tuple[Tensor, Tensor]:
    """Crops of the built-in photos and as many procedural styles, float [batch,3,size,size] in [0,1]."""
    photos = itertools.islice(itertools.cycle(builtin_contents().values()), batch)
    contents = [to_tensor(center_crop(resize_short_side(photo, size), size)) for photo in photos]
    styles = [to_tensor(image) for _, image in draw_style_set(batch, size)]
    return torch.stack(contents), torch.stack(styles)


def obvious_losses(
    model: StyleTransferModel, network: VGGFeatures, config: StyleLoss, content: Tensor, style: Tensor
) -> Losses:
    """The losses in their obvious form.

    Content and style pass through the network one after the other, with one convolution per sample and
    torch's functions for statistics. The encoder's features are also the targets.

    Raises:
        ValueError: for another style loss than mean_std, and another network than the model's encoder.
    """
    if config.style != "mean_std" or not same_network(network, model.encoder):
        raise ValueError("this form computes the mean_std loss in the encoder's own features only")
    with torch.no_grad():
        content_target = _obvious_features(network, content)
        style_target = _obvious_features(network, style)
    scale = model.feature_rms[:, None, None]
    params = model.predict_from_features(style_target)
    stylized = _obvious_decode(model, content_target["relu4_1"] / scale, params)
    result = _obvious_features(network, stylized)
    content_term = F.mse_loss(result["relu4_1"], content_target["relu4_1"])
    style_term = torch.zeros([], device=content.device)
    for layer in result:
        mean, std = _obvious_statistics(result[layer])
        target_mean, target_std = _obvious_statistics(style_target[layer])
        style_term = style_term + F.mse_loss(mean, target_mean) + F.mse_loss(std, target_std)
    return Losses(
        config.content_weight * content_term + config.style_weight * style_term, content_term, style_term
    )


def _obvious_features(network: VGGFeatures, x: Tensor) -> dict[str, Tensor]:
    features = {}
    x = network.conv0(x)
    for name, conv in network.convs.items():
        if name in ("2_1", "3_1", "4_1"):
            x = F.max_pool2d(x, 2)
        x = F.relu(conv(F.pad(x, (1, 1, 1, 1), mode="reflect")))
        if name.endswith("_1"):
            features[f"relu{name}"] = x / network.rms[int(name[0]) - 1]
    return features


def _obvious_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(x, dim=(2, 3), correction=0)
    return mean, (var + 1e-5).sqrt()


def _obvious_decode(model: StyleTransferModel, x: Tensor, params: Sequence[Any]) -> Tensor:
    decoder = cast(ModulatedDecoder, model.decoder)
    for scale, kernels in enumerate(params):

        def first(layer: nn.Module, x: Tensor, kernels: Any = kernels) -> Tensor:
            return _obvious_conv(layer, adaconv(x, *kernels))

        x = decoder.draw_scale(scale, x, first=first, rest=_obvious_conv)
    return x


def _obvious_conv(layer: Any, x: Tensor) -> Tensor:
    x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), layer.conv.scaled_weight, layer.bias)
    return x if layer.activation is None else F.relu(x) * layer.activation.gain


def training_losses(
    model: StyleTransferModel, network: VGGFeatures, config: StyleLoss, content: Tensor, style: Tensor
) -> Losses:
    """The losses as `training.train_style` computes them when encoder and loss network are the same."""
    return style_transfer_losses(model, network, config, content, style, shared=True)


LossForm = Callable[[StyleTransferModel, VGGFeatures, StyleLoss, Tensor, Tensor], Losses]


class StyleIteration:
    """Forward, backward and Adam step of one form, with a separate model, optimizer and batch."""

    def __init__(
        self,
        losses: LossForm,
        *,
        widths: tuple[int, ...],
        style_dim: int,
        batch: int,
        size: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        fused: bool | None = None,
    ) -> None:
        """Make the model, the optimizer and the batch.

        Args:
            dtype: bfloat16 means autocast.
            channels_last: memory format of weights and images.
            fused: of Adam; None is torch's choice.
        """
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.losses, self.dtype, self.device = losses, dtype, device
        self.config = StyleLoss()
        self.model = random_model(widths, style_dim=style_dim, size=size).to(device).to(memory_format=layout)
        self.network = random_features(widths).to(device).to(memory_format=layout)
        self.content, self.style = (x.to(device, memory_format=layout) for x in sample_batch(batch, size))
        self.optimizer = torch.optim.Adam(
            self.model.trainable().values(),
            lr=2e-3,
            betas=(0.0, 0.99),
            fused=fused,
        )

    def __call__(self) -> Tensor:
        """Run one iteration; returns its losses before the step, [3]: total, content, style."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            losses = self.losses(self.model, self.network, self.config, self.content, self.style)
        losses.total.backward()
        self.optimizer.step()
        return torch.stack([x.detach().float() for x in losses])


def compare_iteration(
    *,
    widths: tuple[int, ...] = VGG19_WIDTHS,
    style_dim: int = 512,
    batch: int = 8,
    size: int = 256,
    repeats: int = 5,
    device: torch.device,
    dtypes: Sequence[torch.dtype] = (torch.float32,),
    progress: Advance = lambda: None,
) -> list[Comparison]:
    """The training loop's iteration in each of `dtypes` against the obvious form in float32.

    Encoder and loss network are the same network, as in Chandran et al. 2021, and both forms encode an image
    once. The deviation is that of the three losses in the first iteration, with equal weights.
    """

    def make(losses: LossForm, **options: Any) -> StyleIteration:
        return StyleIteration(
            losses, widths=widths, style_dim=style_dim, batch=batch, size=size, device=device, **options
        )

    forms = {"obvious": make(obvious_losses)}
    for dtype in dtypes:
        forms[_name(dtype)] = make(training_losses, dtype=dtype, channels_last=True, fused=True)
    first = {}
    for name, form in forms.items():  # the warm-up
        first[name] = form()
        progress()
    times = interleaved_ms(forms, repeats, device, progress)
    expected = first["obvious"]
    return [
        _compare(
            "iteration",
            f"{name}, batch {batch}, {size} px",
            ("obvious", name),
            times,
            ((first[name] - expected).abs() / expected.abs()).max().item(),
        )
        for name in forms
        if name != "obvious"
    ]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---------------------------------------------------------------------------------------------------------
# The AdaConv op.


def compare_op(
    *,
    widths: tuple[int, ...] = VGG19_WIDTHS,
    batch: int = OP_BATCH,
    size: int = 256,
    repeats: int = 5,
    device: torch.device,
    compiled: bool = False,
    progress: Advance = lambda: None,
) -> list[Comparison]:
    """AdaConv, forward and backward, against the loop over samples, at each of the four scales and in sum.

    Args:
        widths: channels from the finest scale to the coarsest.
        batch: samples.
        size: side at the finest scale; the coarsest has an eighth.
        repeats: timed runs of each form.
        device: of the computation.
        compiled: compile both forms.
        progress: called after each run.
    """
    mode = "compiled" if compiled else "eager"
    rows = []
    for scale, channels in enumerate(reversed(widths)):
        side = size >> (3 - scale)
        inputs = _op_inputs(batch, channels, max(widths) // channels, side, device)
        forms, results = {}, {}
        for name, op in {"loop": adaconv, "adaconv": fast_adaconv}.items():
            if compiled:
                torch.compiler.reset()  # else earlier shapes count towards the limit of recompilations
                op = torch.compile(op, dynamic=False)
            forms[name] = _forward_backward(op, inputs)
            results[name] = forms[name]()  # compiles, warms up
            progress()
        times = interleaved_ms(forms, repeats, device, progress)
        case = f"{mode}, {channels} channels, {side} px, batch {batch}"
        deviation = largest_deviation(results["adaconv"], results["loop"])
        rows.append(_compare("op", case, ("loop", "adaconv"), times, deviation))
    return [*rows, _sum_rows(rows, f"{mode}, sum of the scales")]


def _op_inputs(batch: int, channels: int, group_size: int, side: int, device: torch.device) -> list[Tensor]:
    """x, depthwise, pointwise, bias and the gradient of the output."""
    generator = torch.Generator().manual_seed(0)
    shapes_and_scales = (
        ((batch, channels, side, side), 1.0),
        ((batch, channels, group_size, 3, 3), 0.2),
        ((batch, channels, group_size, 1, 1), 0.5),
        ((batch, channels), 1.0),
        ((batch, channels, side, side), 1.0),
    )
    return [
        (torch.randn(shape, generator=generator) * scale).to(device) for shape, scale in shapes_and_scales
    ]


def _forward_backward(op: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """A function that returns the output and the gradients of all inputs."""
    *arguments, grad_output = inputs
    leaves = [x.requires_grad_() for x in arguments]

    def run() -> list[Tensor]:
        out = op(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad_output)]

    return run


def _sum_rows(rows: Sequence[Comparison], case: str) -> Comparison:
    total = {
        key: sum(getattr(row, key) for row in rows)
        for key in ("a_min_ms", "a_median_ms", "b_min_ms", "b_median_ms")
    }
    return Comparison(
        rows[0].part, case, rows[0].a, rows[0].b, **total, deviation=max(row.deviation for row in rows)
    )


# ---------------------------------------------------------------------------------------------------------
# Stylising with cached parameters.


def compare_stylize(
    model: StyleTransferModel,
    case: str,
    *,
    size: int = 256,
    repeats: int = 5,
    device: torch.device,
    progress: Advance = lambda: None,
) -> list[Comparison]:
    """Stylising with cached parameters, against predicting them every time."""
    model = model.to(device).eval()
    (content,), (style,) = (x.to(device) for x in sample_batch(1, size))
    params = model.predict_style(style)
    forms: dict[str, Callable[[], Tensor]] = {
        "stylize": lambda: model.stylize(content, style),
        "cached": lambda: model.apply_params(content, params),
    }
    results = {name: form() for name, form in forms.items()}
    progress()
    times = interleaved_ms(forms, repeats, device, progress)
    deviation = largest_deviation([results["cached"]], [results["stylize"]])
    return [_compare("stylize", f"{case}, {size} px", ("stylize", "cached"), times, deviation)]
