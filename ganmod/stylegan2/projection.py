"""Projection of an image: optimisation in W, then in W+ (Karras et al. 2020, appendix D)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.io.images import center_crop, resize, to_tensor
from ganmod.stylegan2.generator import Generator
from ganmod.stylegan2.sampling import map_latents, render

Space = Literal["w", "w+"]
PerceptualMaps = Callable[[Tensor], dict[str, Tensor]]  # RGB [N,3,H,W] in [0,1] -> maps by layer

W_SAMPLES = 10_000  # latents whose mean is the start
PEAK_LEARNING_RATE = 0.1
RAMP_UP, RAMP_DOWN = 0.05, 0.25  # of the learning rate, as shares of all steps
W_NOISE, W_NOISE_SHARE = 0.05, 0.75  # of the deviation of w, falling to zero over this share of all steps
NOISE_WEIGHT = 1e5  # of the regularisation of the noise images
MAX_FEATURE_SIDE, MIN_FEATURE_SIDE = 256, 16  # pixels of the images that the feature network sees
_SMALLEST_REGULARISED = 8  # pixels: the pyramid of a noise image ends here


class Projection(NamedTuple):
    """The latents of an image, on the CPU, and how well they reproduce it.

    Attributes:
        ws: [1,num_ws,w_dim].
        noise: one image [H,W] per layer.
        start_image: uint8 [H,W,3], at `start_distance` from the target.
        image: the result, uint8 [H,W,3], at `distance` from the target.
    """

    ws: Tensor
    noise: list[Tensor]
    start_image: np.ndarray
    image: np.ndarray
    start_distance: float
    distance: float


def fit_target(image: np.ndarray, size: tuple[int, int], *, crop: bool = False) -> np.ndarray:
    """Resize an image uint8 [h,w,3] to the model's size (height, width) with a Lanczos filter.

    Args:
        crop: first cut out the largest centre of the model's aspect ratio.

    Raises:
        ValueError: without crop, for another aspect ratio, by a pixel of the model's image or more.
    """
    height, width = image.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    if crop:
        fitting = (min(height, round(size[0] / scale)), min(width, round(size[1] / scale)))
        image = center_crop(image, fitting)
    elif abs(height * scale - size[0]) >= 1 or abs(width * scale - size[1]) >= 1:
        raise ValueError(
            f"the image is {width} x {height} (width x height), of another aspect than the model's "
            f"{size[1]} x {size[0]}: cut it to that aspect, or let --crop take its centre"
        )
    return resize(image, size)


def w_statistics(
    G: Generator, c: Tensor | None = None, *, num_samples: int = W_SAMPLES, seed: int = 0
) -> tuple[Tensor, float]:
    """Mean [w_dim] of w over random z, and the root mean squared distance of w from it.

    c [1,c_dim]: the class, None for an unconditional model.
    """
    z = torch.from_numpy(np.random.RandomState(seed).randn(num_samples, G.z_dim)).float()
    w = map_latents(G, z, c)[:, 0]
    mean = w.mean(dim=0)
    return mean, (w - mean).square().sum(dim=1).mean().sqrt().item()


def learning_rate(step: int, num_steps: int) -> float:
    """Linear ramp up, then constant, then a cosine ramp down."""
    t = step / num_steps
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / RAMP_DOWN))
    return PEAK_LEARNING_RATE * down * min(1.0, t / RAMP_UP)


def w_noise_strength(step: int, num_steps: int, w_std: float) -> float:
    """Deviation of the noise on w: 0.05 w_std * max(0, 1 - t / 0.75)^2, t = step / num_steps."""
    return W_NOISE * w_std * max(0.0, 1 - step / num_steps / W_NOISE_SHARE) ** 2


def noise_regularization(noise: Sequence[Tensor]) -> Tensor:
    """Squared autocorrelation of noise images [H,W] at shifts of one pixel, summed over a pyramid -> [].

    Keeps the image out of the noise. Each level is the mean of 2 x 2 pixels of the one before, times 2, which
    keeps white noise white; the last level has a side of at most 8.
    """
    total = noise[0].new_zeros(())
    for image in noise:
        while True:
            for dim in (0, 1):
                total = total + (image * image.roll(1, dims=dim)).mean().square()
            if min(image.shape) <= _SMALLEST_REGULARISED:
                break
            image = F.avg_pool2d(image[None], 2)[0] * 2
    return total


def normalize_noise(noise: Tensor) -> Tensor:
    """Noise image [H,W] with mean zero and mean square one."""
    centred = noise - noise.mean()
    return centred * centred.square().mean().rsqrt()


def feature_distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> Tensor:
    """Mean squared difference of features / RMS, mean over layers -> []."""
    return torch.stack([(first[layer] - second[layer]).square().mean() for layer in first]).mean()


def project(
    G: Generator,
    target: np.ndarray,
    features: PerceptualMaps,
    *,
    c: Tensor | None = None,
    space: Space = "w",
    num_steps: int = 500,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Projection:
    """Optimise the ws whose image is nearest to the target in `features`.

    Differs from the paper: any feature network, features divided by their RMS, and W+. The same seed gives
    the same result on one machine.

    Args:
        target: uint8 [H,W,3] of the generator's size.
        features: RGB [N,3,H,W] in [0,1] -> maps by layer, such as from `load_perceptual_maps`.
        c: [1,c_dim], the class whose mean w is the start.
        space: "w" optimises one w for all layers; "w+" continues with one for each, for as many steps.
        progress: called after every step with the distance.

    Raises:
        ValueError: for a target of another size.
    """
    if target.shape != (*G.img_resolution, 3):
        raise ValueError(
            f"the target is {list(target.shape)}, expected {[*G.img_resolution, 3]}: bring it there with "
            "fit_target"
        )
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, expected 1 or more")
    device = next(G.parameters()).device
    with torch.no_grad():
        wanted = features(_feature_input(to_tensor(target)[None].to(device) * 2 - 1))
    mean, w_std = w_statistics(G, c, seed=seed)
    random = torch.Generator().manual_seed(seed)  # of the CPU, so that devices agree
    noise = [
        normalize_noise(torch.randn(shape, generator=random)).to(device).requires_grad_()
        for shape in G.synthesis.noise_shapes()
    ]

    def distance(ws: Tensor) -> Tensor:
        images = G.synthesis(ws.expand(1, G.num_ws, -1), noise=noise)
        return feature_distance(features(_feature_input(images)), wanted)

    def snapshot(ws: Tensor) -> tuple[np.ndarray, float]:
        with torch.no_grad():
            image = render(G, ws.expand(1, G.num_ws, -1), noise=noise)[0]
            return image, distance(ws).item()

    ws = mean[None, None].clone()  # [1,1,w_dim]
    start_image, start_distance = snapshot(ws)
    for stage in ("w", "w+")[: 1 if space == "w" else 2]:
        if stage == "w+":
            ws = ws.expand(1, G.num_ws, -1).clone()  # [1,num_ws,w_dim]
        ws = ws.detach().requires_grad_()
        optimizer = torch.optim.Adam([ws, *noise], lr=PEAK_LEARNING_RATE)
        for step in range(num_steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, num_steps)
            # Noise on w is for exploring from the mean; W+ starts from the result of W.
            strength = w_noise_strength(step, num_steps, w_std) if stage == "w" else 0.0
            disturbance = torch.randn(ws.shape, generator=random).to(device) * strength
            value = distance(ws + disturbance)
            optimizer.zero_grad(set_to_none=True)
            (value + NOISE_WEIGHT * noise_regularization(noise)).backward()
            optimizer.step()
            with torch.no_grad():
                for noise_image in noise:
                    noise_image.copy_(normalize_noise(noise_image))
            if progress is not None:
                progress(value.item())
    image, end_distance = snapshot(ws.detach())
    final = ws.detach().expand(1, G.num_ws, -1).cpu().clone()
    return Projection(
        final, [n.detach().cpu() for n in noise], start_image, image, start_distance, end_distance
    )


def _feature_input(images: Tensor) -> Tensor:
    """Images [N,1 or 3,H,W] in [-1,1] -> RGB in [0,1], at a size that suits the feature network."""
    height, width = images.shape[2:]
    scale = min(1.0, MAX_FEATURE_SIDE / max(height, width))
    scale = max(scale, MIN_FEATURE_SIDE / min(height, width))
    if scale != 1:
        images = F.interpolate(images, (round(height * scale), round(width * scale)), mode="area")
    return (images.expand(-1, 3, -1, -1) + 1) / 2
