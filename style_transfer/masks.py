"""Spatial masks: the region of each style. Grey for two styles, colours or several masks for more.

Masks are shares of every pixel, float [R,H,W] with sum 1 over the R regions.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.io.images import LUMA, ImageError

ASPECT_TOLERANCE = 0.02  # by rounding, a mask drawn at another size is off by a pixel
SAME_COLOR = 48  # grey levels in every channel: JPEG and smooth edges blur a mask's colours by less
AREA = 0.005  # share of the pixels: colours that cover less are edges between two regions
_LUMA = np.rint(np.array(LUMA) * 1000).astype(int)  # thousandths: integers add up exactly


def make_masks(images: Sequence[np.ndarray], num_styles: int) -> Tensor:
    """Convert mask images to each style's share of every pixel: float [R,H,W], R = num_styles, sum 1.

    Args:
        images: uint8 [H,W,3] each. One grey image for two styles: white is the first, black the second, grey
            a blend. One image in colours for any number: regions ordered by colour from light to dark. One
            image per style: white where the style applies; overlaps are shared.
        num_styles: at least 2.

    Raises:
        ValueError: for another number of masks than 1 and num_styles.
        ImageError: for masks that do not fit.

    Warns:
        UserWarning: for regions without a pixel.
    """
    if num_styles < 2:
        raise ValueError(f"got a mask and {num_styles} style, expected two styles at least: one per region")
    if len(images) == 1:
        image = images[0]
        is_grey = bool((image == image[..., :1]).all())
        if num_styles == 2 and is_grey:
            white = torch.from_numpy(image[..., 0].astype(np.float32) / 255)
            masks = torch.stack([white, 1 - white])
        else:
            masks = color_regions(image, num_styles)
    elif len(images) == num_styles:
        masks = _normalize_masks(images)
    else:
        raise ValueError(
            f"got {num_styles} styles and {len(images)} masks: expected one mask per style, or a single mask "
            f"with {num_styles} regions"
        )
    empty = [str(i + 1) for i, mask in enumerate(masks) if mask.max() == 0]
    if empty:
        warnings.warn(
            f"the mask gives no pixel to style {' and '.join(empty)} of {num_styles}: "
            "expected every region to appear, check that it is the right file",
            stacklevel=2,
        )
    return masks


def color_regions(image: np.ndarray, num_regions: int) -> Tensor:
    """Split a mask in `num_regions` colours, uint8 [H,W,3] -> float [R,H,W] of 0 and 1, light to dark.

    Similar colours (JPEG, smooth edges) count as one. Raises ImageError, which lists the mask's colours, for
    another number of them.
    """
    # One number per colour: sorting rows of three takes about 60 times as long.
    packed = image.reshape(-1, 3).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    values, indices, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colors = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1)  # [colours,3]
    centers: list[np.ndarray] = []
    for i in np.argsort(-counts, kind="stable"):
        if counts[i] < AREA * len(indices):
            break
        if all(np.abs(colors[i] - center).max() > SAME_COLOR for center in centers):
            centers.append(colors[i])
    centers.sort(key=lambda color: (-int(color @ _LUMA), *color))
    if len(centers) != num_regions:
        listed = ", ".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in centers[:8]) or "none that covers an area"
        raise ImageError(
            f"the mask has {len(centers)} colours ({listed}), expected {num_regions}, one per style: paint "
            "each region in one colour of its own, or give one mask per style"
        )
    away = np.stack([np.square(colors - center).sum(axis=1) for center in centers])
    nearest = away.argmin(axis=0)[indices.reshape(-1)].reshape(image.shape[:2])
    return torch.stack([torch.from_numpy(nearest == i).float() for i in range(num_regions)])


def _normalize_masks(images: Sequence[np.ndarray]) -> Tensor:
    """Divide one mask per style, uint8 [H,W,3], by their sum -> float [R,H,W]."""
    shapes = [image.shape[:2] for image in images]
    if len(set(shapes)) > 1:
        listed = ", ".join(f"{h} x {w}" for h, w in shapes)
        raise ImageError(f"the masks are {listed} pixels, expected one size: draw them over one picture")
    masks = torch.stack([torch.from_numpy((image @ _LUMA) / 255_000).float() for image in images])
    total = masks.sum(dim=0)
    bare = (total < 1 / 255).float().mean().item()
    if bare > 0:
        raise ImageError(
            f"{bare:.1%} of the pixels are black in all {len(images)} masks, expected every pixel in one at "
            "least: make the last mask the rest of the image"
        )
    return masks / total


def fit_masks(masks: Tensor, height: int, width: int) -> Tensor:
    """Resize masks [R,h,w] to height x width, keeping the sum of 1; ImageError for another aspect."""
    if masks.shape[1:] == (height, width):
        return masks
    resized = _resize_masks(masks, height, width, "content")
    return resized / resized.sum(dim=0)


def style_mask(image: np.ndarray | Tensor, height: int, width: int) -> Tensor:
    """Convert an image to a mask of a style, [1,1,height,width] in [0,1].

    Args:
        image: uint8 [H,W] or [H,W,3], white where the style counts, or float [H,W] in [0,1].
        height, width: size of the style image.

    Raises:
        ImageError: for another aspect than the style's, for other values, and for a mask of zeros.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] in ((), (3,)):
        grey = image if image.ndim == 2 else (image @ _LUMA) / 1000
        mask = torch.from_numpy(np.ascontiguousarray(grey, dtype=np.float32)) / 255
    elif isinstance(image, Tensor) and image.is_floating_point():
        mask = image
    else:
        mask = torch.empty(0)
    if mask.ndim != 2 or not mask.numel() or not bool(((mask >= 0) & (mask <= 1)).all()):
        raise ImageError(
            f"the style mask is {type(image).__name__} {image.dtype} {list(image.shape)}, expected uint8 "
            "[H, W] or [H, W, 3], or floats [H, W] in [0, 1]"
        )
    if mask.max() == 0:
        raise ImageError(
            "the style mask is black everywhere, expected white where the style counts: paint a part white"
        )
    if mask.shape != (height, width):
        mask = _resize_masks(mask[None], height, width, "style")[0]
    return mask[None, None]


def check_mask(mask: Tensor, style: Tensor) -> None:
    """Raise ValueError unless a mask [N or 1,1,H,W] in [0,1] fits style images [N,3,H,W] and is not empty."""
    height, width = style.shape[2:]
    if mask.ndim != 4 or len(mask) not in (1, len(style)) or mask.shape[1:] != (1, height, width):
        raise ValueError(
            f"the style mask is {list(mask.shape)}, expected [{len(style)}, 1, {height}, {width}]: the size "
            "of the style image"
        )
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise ValueError("the style mask has values beyond [0, 1], expected 1 where the style counts, else 0")
    if bool((mask.amax(dim=(1, 2, 3)) == 0).any()):
        raise ValueError(
            "the style mask is 0 everywhere, expected a part above 0: choose another part of the style (one "
            "that is turned or enlarged is cut at its border)"
        )


def pool_mask(mask: Tensor, features: Tensor) -> Tensor:
    """Average an image's mask [N,1,H,W] over the cells of its features [N,C,h,w] -> [N,1,h,w]."""
    return F.interpolate(mask, size=features.shape[2:], mode="area")


def _resize_masks(masks: Tensor, height: int, width: int, what: str) -> Tensor:
    """Resize masks [R,h,w] to height x width, in [0,1]; ImageError for another aspect."""
    mask_height, mask_width = masks.shape[1:]
    # Rounding to integer pixels changes the aspect of small masks by more than the tolerance.
    slack = max(ASPECT_TOLERANCE, 1 / min(mask_height, mask_width, height, width))
    if abs(mask_width * height / (mask_height * width) - 1) > slack:
        raise ImageError(
            f"the mask is {mask_height} x {mask_width} pixels, the {what} {height} x {width}: expected one "
            f"aspect ratio (height x width), so draw or crop the mask over the {what}"
        )
    resized = F.interpolate(
        masks[None], size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )[0]
    return resized.clamp(0, 1)
