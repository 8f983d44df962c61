"""Does the clip path flicker less than frame by frame, at the same style? On photos moved by a known motion.

Each clip: a scikit-image photo under a slow sub-pixel pan and zoom, with a camera's noise. Stylised frame by
frame, and as `ganmod stylize clip.mp4` does it. Flicker is the mean change from frame to frame, warp-free and
along the known motion; the style loss is that of `ganmod-slim`. As some of the change is the motion itself,
the noise-free clip, stylised frame by frame, is measured, too; how far a result is from that (mean absolute
difference, in [0,1]) tells noise that was taken out from frames that lag behind.

    python benchmarks/clip_flicker.py --out results/style/clip_flicker.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import style_transfer
from ganmod.features.style_losses import mean_std_loss
from ganmod.features.vgg import load_features
from ganmod.io.images import to_tensor, to_uint8
from ganmod.machine import describe_machine
from metrics.images.flicker import measure_flicker
from style_transfer.piecewise.video import ClipStylizer
from style_transfer.prepare import prepare_style
from style_transfer.procedural_styles import builtin_contents, draw_style

PAIRS = (("chelsea", "stripes"), ("coffee", "hatching"), ("astronaut", "brush_strokes"))
FORMS = {
    "frame by frame": {"smoothing": 0.0, "blend": 0.0},
    "smoothing alone": {"blend": 0.0},
    "blend alone": {"smoothing": 0.0},
    "both": {},
}
LOSS_EVERY = 4  # frames


def moved_photo(
    photo: np.ndarray, *, size: int, num_frames: int, pan: float, zoom: float, noise: float
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Frames without noise, with it, and the motion of each but the first, for `metrics.images.flicker`.

    pan: pixels per frame to the right, half as many down. zoom: factor per frame. noise: deviation in [0,1].
    """
    image = to_tensor(photo)[None]
    height, width = image.shape[2:]
    generator = torch.Generator().manual_seed(0)
    places, clean, noisy = [], [], []
    centred = torch.arange(size) - (size - 1) / 2
    for t in range(num_frames):
        columns = (width - 1) / 2 - 10 + pan * t + centred * zoom**-t
        rows = (height - 1) / 2 - 5 + pan / 2 * t + centred * zoom**-t
        places.append((columns, rows))
        across, down = 2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1
        grid = torch.stack([across.expand(size, size), down[:, None].expand(size, size)], dim=-1)[None]
        frame = F.grid_sample(image, grid, mode="bicubic", align_corners=True)[0].clamp(0, 1)
        clean.append(to_uint8(frame))
        noisy.append(to_uint8(frame + noise * torch.randn(frame.shape, generator=generator)))
    motion = []
    for t in range(1, num_frames):
        (columns, rows), (columns0, rows0) = places[t], places[t - 1]
        right = (columns - columns0[0]) / (columns0[1] - columns0[0]) - torch.arange(size)
        down = (rows - rows0[0]) / (rows0[1] - rows0[0]) - torch.arange(size)
        field = torch.stack([right.expand(size, size), down[:, None].expand(size, size)], dim=-1)
        motion.append(field.numpy())
    return clean, noisy, motion


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Figures as JSON.")
    parser.add_argument("--size", type=int, default=192, help="Side in pixels.")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--pan", type=float, default=0.25, help="Pixels per frame.")
    parser.add_argument("--zoom", type=float, default=1.0005, help="Factor per frame.")
    parser.add_argument("--noise", type=float, default=3.0, help="Standard deviation in grey levels.")
    arguments = parser.parse_args()

    model, network = style_transfer.load(), load_features("ganmod-slim")
    results = []
    for photo, name in PAIRS:
        style = draw_style(name)
        params = model.predict_style(style)
        target = network.normalized(prepare_style(to_tensor(style)[None], 256))
        clean, noisy, motion = moved_photo(
            builtin_contents()[photo],
            size=arguments.size,
            num_frames=arguments.frames,
            pan=arguments.pan,
            zoom=arguments.zoom,
            noise=arguments.noise / 255,
        )
        plain: dict[str, float] = {}
        truth: list[np.ndarray] = []
        clips = [("without noise, frame by frame", clean, FORMS["frame by frame"])]
        for form, inputs, shares in clips + [(form, noisy, shares) for form, shares in FORMS.items()]:
            stylizer = ClipStylizer(model, **shares)
            outputs = [stylizer(frame, params) for frame in inputs]
            truth = truth or outputs
            pairs = list(zip(outputs, truth, strict=True))[LOSS_EVERY:]
            apart = [np.abs(a.astype(float) - b).mean() / 255 for a, b in pairs]
            flicker = measure_flicker(outputs, inputs, motion=motion)
            shown = outputs[LOSS_EVERY // 2 :: LOSS_EVERY]
            losses = [mean_std_loss(network.normalized(to_tensor(i)[None]), target).item() for i in shown]
            row = {
                "flicker": flicker.of_output,
                "flicker of the input": flicker.of_input,
                "warped flicker": flicker.warped,
                "style loss": float(np.mean(losses)),
                "from noise-free": float(np.mean(apart)),
            }
            if form == "frame by frame":
                plain = dict(row)
            ratios = {f"{key}, ratio": row[key] / plain[key] for key in plain if "input" not in key}
            results.append({"photo": photo, "style": name, "form": form, **row, **ratios})
            figures = ", ".join(f"{key} {value:.4f}" for key, value in (row | ratios).items())
            print(f"{photo}, {name}, {form}: {figures}", flush=True)
    if arguments.out:
        report = {
            "settings": {key: value for key, value in vars(arguments).items() if key != "out"},
            "machine": describe_machine(torch.device("cpu")),
            "results": results,
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
