"""Train the shipped feature network: a small VGG whose features match the 16-fold compressed VGG-19's.

    python benchmarks/train_feature_network.py --teacher 4SE.pth --data PHOTOS --data PAINTINGS --minutes 20
    --out runs/features

The student has the teacher's layout. Its first convolution is solved by least squares, the others start at
random; every convolution's output is matched, each divided by the teacher's deviation at that layer. Writes
ganmod-slim.safetensors, features.json (figures) beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ganmod.data.crops import CropStream
from ganmod.features.vgg import SLIM_WIDTHS, VGGFeatures, calibration_images, load_features
from ganmod.io.images import list_images
from ganmod.io.model_file import save_model_file
from training.loader import StepSampler, step_loader


def record_outputs(network: VGGFeatures) -> dict[str, Tensor]:
    """Outputs of every convolution, before its ReLU, filled in at each forward pass."""
    outputs: dict[str, Tensor] = {}
    for name, conv in network.convs.items():
        conv.register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out))
    return outputs


def new_student() -> VGGFeatures:
    """Random weights (Kaiming), and the ImageNet mean and deviation as the fixed input normalisation."""
    student = VGGFeatures(SLIM_WIDTHS)
    for conv in student.convs.values():
        nn.init.kaiming_normal_(conv.weight)
        nn.init.zeros_(conv.bias)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    student.conv0.weight.data.copy_(torch.diag(1 / std)[..., None, None])
    student.conv0.bias.data.copy_(-mean / std)
    student.conv0.requires_grad_(False)
    return student


@torch.no_grad()
def solve_first_layer(student: VGGFeatures, teacher: VGGFeatures, images: Tensor) -> None:
    """Least squares for conv1_1, which is linear in the image; gradient descent is slow on its correlated
    patches.
    """
    first = student.convs["1_1"]
    patches = F.unfold(F.pad(student.conv0(images), (1, 1, 1, 1), mode="reflect"), 3)  # [N,27,L]
    target = teacher.convs["1_1"](F.pad(teacher.conv0(images), (1, 1, 1, 1), mode="reflect")).flatten(
        2
    )  # [N,16,L]
    a = patches.transpose(1, 2).reshape(-1, patches.shape[1]).double()
    a = torch.cat([a, torch.ones(len(a), 1, dtype=a.dtype)], dim=1)
    b = target.transpose(1, 2).reshape(-1, target.shape[1]).double()
    solution = torch.linalg.solve(a.T @ a, a.T @ b).T.float()  # [16,28]
    first.weight.copy_(solution[:, :-1].reshape(first.weight.shape))
    first.bias.copy_(solution[:, -1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", action="append", required=True, help="folder of images, repeatable")
    parser.add_argument(
        "--exclude", action="append", default=[], help="file with one held-out file name per line"
    )
    parser.add_argument("--minutes", type=float, default=20, help="processor minutes (all threads together)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    held_out = {line for file in args.exclude for line in Path(file).read_text().split()}
    files = [p for folder in args.data for p in list_images(folder) if p.name not in held_out]
    stream = CropStream(files, purpose="features", crop=args.crop, short_side=256, seed=args.seed)
    loader = iter(step_loader(stream, StepSampler(batch=args.batch, nimg=0)))

    teacher, student = load_features("vgg19-slim", path=args.teacher), new_student()
    solve_first_layer(student, teacher, next(loader).float() / 255)
    targets, outputs = record_outputs(teacher), record_outputs(student)
    with torch.no_grad():
        teacher(calibration_images())
    scale = {name: out.std() for name, out in targets.items()}
    optimizer = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], lr=args.lr)

    begin, budget, step, history = time.process_time(), args.minutes * 60, 0, []
    bar = tqdm(total=round(budget), unit="s", disable=None)
    while (elapsed := time.process_time() - begin) < budget:
        progress = elapsed / budget
        for group in optimizer.param_groups:  # linear warm-up over 2 %, then linear to zero
            group["lr"] = args.lr * min(progress / 0.02 + 0.05, 1.0) * (1 - progress)
        x = next(loader).float() / 255
        with torch.no_grad():
            teacher(x)
        student(x)
        errors = {name: ((outputs[name] - targets[name]) / scale[name]).square().mean() for name in targets}
        loss = sum(errors.values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 50 == 0:
            history.append(
                {
                    "step": step,
                    "seconds": round(elapsed),
                    **{k: round(v.item(), 5) for k, v in errors.items()},
                }
            )
            bar.update(round(elapsed) - bar.n)
            bar.set_postfix(step=step, relu4_1=history[-1]["4_1"])
            if bar.disable and step % 500 == 0:
                print(json.dumps(history[-1]), flush=True)
    bar.close()

    student.calibrate(calibration_images())
    args.out.mkdir(parents=True, exist_ok=True)
    config = {"widths": list(SLIM_WIDTHS)}
    save_model_file(
        args.out / "ganmod-slim.safetensors",
        student.state_dict(),
        kind="feature-network",
        config=config,
        half=True,
    )
    figures = {
        "steps": step,
        "images": len(files),
        "options": {k: str(v) for k, v in vars(args).items()},
        "history": history,
    }
    (args.out / "features.json").write_text(json.dumps(figures, indent=1))
    print(
        f"{step} steps on {len(files)} images; errors at the last step: {history[-1] if history else 'none'}"
    )


if __name__ == "__main__":
    main()
