"""Train, measure and write one released model on a borrowed GPU, or measure that GPU, in one short call.

    python benchmarks/released_models.py pack --content PHOTOS --content MORE_PHOTOS --style PAINTINGS \\
        --style TEXTURES --exclude results/style/held_out.txt --pairs results/style/held_out_pairs.json \\
        --feature-network vgg19-slim=4SE.pth --feature-network vgg19 --wheels -o inputs/
    python benchmarks/released_models.py style-adaconv-slim --minutes 9 -i inputs/ -o OUT
    python benchmarks/released_models.py style-adaconv-wide --minutes 9 -i inputs/ -o OUT

    python benchmarks/released_models.py pack --faces FACES --notice "source and licence of FACES" \\
        --feature-network squeezenet1_1=squeezenet1_1-b8a52dc0.pth --wheels -o inputs/
    python benchmarks/released_models.py stylegan2-faces-adaconv --minutes 9 -i inputs/ -o OUT
    python benchmarks/released_models.py stylegan2-faces-weight_demod --minutes 9 -i inputs/ -o OUT
    python benchmarks/released_models.py stylegan2-faces-adain --minutes 9 -i inputs/ -o OUT
    python benchmarks/released_models.py starganv2-faces --modulation adaconv --minutes 9 -i inputs/ -o OUT
    python benchmarks/released_models.py throughput --minutes 9 -i inputs/ -o OUT

`pack`, on a machine with the images and a network connection, writes one folder of at most 40 MB; with both
kinds of images it serves all jobs. The others need that folder, this repository, PyTorch, torchvision, scipy
and scikit-image, and nothing else: what is missing of the rest is installed from the folder's wheels, for
this process alone. All images are decoded once into the device's memory, and batches are drawn there.
Training ends --reserve seconds before --minutes are over, all preparations counted; then OUT gets
JOB.safetensors (half precision), JOB.json (figures, configuration, speed, memory, machine) and JOB.jpg
(pictures).

Figures: of style transfer, the losses on 25 held-out pairs; of the GANs, distances of 5,000 samples to all
faces in SqueezeNet's features. FACES is a folder or zip with a folder per class; without --modulation,
starganv2-faces has that of its preset. `throughput` trains nothing and writes throughput.json after every
part; parts for which no time is left are named there. Without a path, --feature-network vgg19 is what
`load_features` finds.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from released.jobs import GAN_JOBS, JOBS, MB, THROUGHPUT

ROOT = Path(__file__).resolve().parent.parent
NEEDED = {
    "pydantic": "pydantic",
    "pydantic_core": "pydantic-core",
    "annotated_types": "annotated-types",
    "typing_inspection": "typing-inspection",
    "typing_extensions": "typing-extensions",
    "yaml": "pyyaml",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "PIL": "pillow",
}  # module: package


def missing_packages(needed: Mapping[str, str] = NEEDED) -> list[str]:
    """The packages whose modules cannot be found."""
    return [package for module, package in needed.items() if importlib.util.find_spec(module) is None]


def install_wheels(folder: Path, packages: list[str]) -> None:
    """Install packages from a folder of wheels for this process alone, which finds them from now on.

    Raises ValueError for a package without a wheel.
    """
    target = tempfile.mkdtemp(prefix="wheels-")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    command += ["--find-links", str(folder), "--target", target, *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(
            f"missing here, and not to be installed from {folder}: {', '.join(packages)}. Pack them: "
            f"`released_models.py pack --wheels {' '.join(packages)} ...`\n{done.stderr.strip()[-500:]}"
        )
    sys.path.append(target)
    importlib.invalidate_caches()


def main(arguments: list[str] | None = None) -> None:
    begin = time.monotonic()
    args = _parser().parse_args(arguments)
    if importlib.util.find_spec("ganmod") is None:
        sys.path.insert(0, str(ROOT))
    try:
        if args.job == "pack":
            _pack(args)
        else:
            _run(args, begin)
    except ValueError as error:
        sys.exit(f"error: {error}")


def _pack(args: argparse.Namespace) -> None:
    from released.packing import WHEEL_NAMES, describe, pack

    networks = dict((*text.split("=", 1), None)[:2] for text in args.feature_network)
    wheels = args.wheels if args.wheels is not None else ()
    sizes = pack(
        args.out,
        content=args.content,
        style=args.style,
        exclude=args.exclude,
        pairs=args.pairs,
        every=args.every,
        faces=args.faces,
        face_size=args.face_size,
        notice=args.notice,
        feature_networks=networks,
        wheels=wheels or (WHEEL_NAMES if args.wheels is not None else ()),
        short_side=args.short_side,
        image_format=args.format,
        limit=round(args.limit_mb * MB),
    )
    print(f"{args.out}: {describe(sizes)}")
    print((args.out / "inputs.json").read_text(), end="")


def _run(args: argparse.Namespace, begin: float) -> None:
    if missing := missing_packages():
        install_wheels(args.inputs / "wheels", missing)
    import torch

    from configs.schema import parse_setting

    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    changes = dict(parse_setting(text) for text in args.set)

    def log(text: str) -> None:
        print(text, flush=True)

    if args.job == THROUGHPUT:
        from released.throughput import run_throughput

        run_throughput(args.out, begin=begin, minutes=args.minutes, changes=changes, device=device, log=log)
        return
    from released.timed_loop import JobOptions

    if getattr(args, "modulation", None) is not None:
        changes = {"model.modulation": args.modulation, **changes}
    options = JobOptions(
        begin=begin,
        minutes=args.minutes,
        device=device,
        reserve=args.reserve,
        steps=args.steps,
        changes=changes,
        graph=not args.no_graph,
        log=log,
    )
    if args.job in JOBS:
        from released.job_run import run_job

        run_job(JOBS[args.job], args.inputs, args.out, options, init=args.init)
    elif GAN_JOBS[args.job].recipe == "stylegan2":
        from released.stylegan2_faces import run_stylegan2

        run_stylegan2(GAN_JOBS[args.job], args.inputs, args.out, options)
    else:
        from released.starganv2_faces import run_starganv2

        run_starganv2(GAN_JOBS[args.job], args.inputs, args.out, options)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="job", required=True, metavar="JOB")

    pack = commands.add_parser("pack", help="make the folder of inputs")
    pack.add_argument("--content", action="append", default=[], help="folder of photos, repeatable")
    pack.add_argument("--style", action="append", default=[], help="folder of artworks, repeatable")
    pack.add_argument("--faces", type=Path, help="folder or zip of faces, a folder per class")
    pack.add_argument("--face-size", type=int, default=128, help="side in pixels, halved where it must be")
    pack.add_argument("--notice", help="source and licence of the faces, for the records")
    pack.add_argument("--exclude", action="append", default=[], help="file of names to leave out, repeatable")
    pack.add_argument("--pairs", type=Path, default=ROOT / "results/style/held_out_pairs.json")
    pack.add_argument("--every", type=int, default=4, help="of the held-out contents and styles in --pairs")
    pack.add_argument(
        "--feature-network", action="append", default=[], metavar="NAME[=PATH]", help="repeatable"
    )
    pack.add_argument(
        "--wheels", nargs="*", metavar="PACKAGE", help="wheels to add; no names: the usual ones"
    )
    pack.add_argument("--short-side", type=int, default=320, help="of training images, at most, in pixels")
    pack.add_argument("--format", choices=("webp", "jpeg"), default="webp", help="of training images")
    pack.add_argument("--limit-mb", type=float, default=40, help="of the whole folder, in 10^6 bytes")
    pack.add_argument("-o", "--out", type=Path, required=True, help="replaced where it exists")

    helps = dict.fromkeys(JOBS, "train this style-transfer model")
    helps |= {name: f"train {job.recipe} on the faces" for name, job in GAN_JOBS.items()}
    helps[THROUGHPUT] = "measure speed and memory"
    for name, text in helps.items():
        job = commands.add_parser(name, help=text)
        job.add_argument("-i", "--inputs", type=Path, required=True)
        job.add_argument("-o", "--out", type=Path, required=True)
        job.add_argument("--minutes", type=float, default=9, help="for everything")
        job.add_argument("--device", help="default: cuda if there is one, else cpu")
        job.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="of the configuration; of throughput, of what it measures",
        )
        if name == THROUGHPUT:
            continue
        job.add_argument("--reserve", type=float, default=60, help="seconds of them for the evaluation")
        job.add_argument("--steps", type=int, help="end the training after so many, if that is earlier")
        job.add_argument("--no-graph", action="store_true", help="no CUDA graph")
        if name in JOBS:
            job.add_argument("--init", type=Path, help="a model file to begin with, of the same model")
        elif GAN_JOBS[name].recipe == "starganv2":
            job.add_argument("--modulation", help="default: the preset's")
    return parser


if __name__ == "__main__":
    main()
