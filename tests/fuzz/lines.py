"""Strategies of command lines: lines that work, with a few options or arguments that do not fit."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from hypothesis import strategies as st

from ganmod.cli.main import cli
from tests.fuzz import values as v

SMALL_RUN = (
    "--set schedule.total_kimg=0.008 --set schedule.batch_size=4 --set model.channel_max=4 "
    "--set runtime.tensorboard=false"
)
LINES = [
    "stylize image.png image.jpeg --model style-adaconv.safetensors --size 32 -o o.png",
    "stylize image.png image.jpeg image.bmp --model style-classic.safetensors --alpha 0.5 -o o.png",
    "stylize image.png learned:a learned:b:0.3 --model style-johnson-cin.safetensors -o o.png",
    "stylize image.png --interpolate-styles image.bmp image.jpeg --seconds 0.1 --size 32 -o o.gif",
    "optimize image.png image.jpeg --size 32 --steps 1 -o o.png",
    "generate stylegan2.safetensors --seeds 0-1 -o out",
    "generate classes.safetensors --class a --seeds 0 --trunc 0.7 -o out",
    "generate stylegan2.safetensors --interpolate 0-1 --frames-per-step 2 -o o.gif",
    "generate stylegan2.safetensors --style-mix 0 1 0-2 -o o.png",
    "generate stylegan2.safetensors --ws latents.npz -o out",
    "translate starganv2.safetensors --source image.png --latent 0 --domain cat -o o.png",
    "translate starganv2.safetensors --source image.png --reference image.bmp --domain dog -o o.png",
    "project stylegan2.safetensors image.png --crop --steps 1 --features ganmod-slim -o out",
    "fid images.zip images.zip --features ganmod-slim --metrics fid",
    "fid stylegan2.safetensors images.zip --features ganmod-slim --metrics kid --num 4",
    "compare runs classes.safetensors --data images.zip --features ganmod-slim --metrics fid --num 4 -o out",
    *("data info images.zip", "data pack images.zip out.zip --size 16", "modulations --json"),
    *("train style --config style-smoke --dry-run", "train style --config style-adaconv-slim --dry-run"),
    "train style --one-style image.png --dry-run",
    "train stylegan2 --config stylegan2-smoke --data images.zip --dry-run",
    "train starganv2 --config starganv2-smoke --data images.zip --dry-run",
    f"train stylegan2 --config stylegan2-smoke --data images.zip --out run {SMALL_RUN}",
    "import stylegan2-ada ada.pkl -o m.safetensors",
    "import stylegan2-rosinality rosinality.pt -o m.safetensors",
    "import starganv2 official.ckpt -o m.safetensors",
    "import adain weights.pth weights.pth -o m.safetensors",
    "import wct . -o m.safetensors",
]
# Put at the end, so that what a line asks for does not take long.
SHORTENED = {
    "optimize": "--steps 1 --sizes 1",
    "project": "--steps 1",
    "train": "--set schedule.total_kimg=0.008",
}
SETTINGS = (
    *("schedule.total_kimg", "schedule.batch_size", "schedule.microbatch", "schedule.minutes", "freeze_d"),
    *("model.modulation", "model.modulation_options", "model.descriptor_size", "model.z_dim", "model"),
    *("model.start_size", "model.style_dim", "model.img_size", "model.channel_base", "optimizer.lr"),
    *("loss.pl_weight", "loss.network", "loss.style_weight", "optimizer.g_lr", "data.content", "data.crop"),
    *("data.num_workers", "data.resolution", "runtime.device", "runtime.seed", "runtime.precision"),
    *("metric.names", "metric.every", "metric.features", "augmentation.pipe", "augmentation.p"),
    *("schedule.snapshot_kimg", "transfer", "plugins", "x.y", "a"),
)
# Names of files that a line may name beside the seeds.
OTHERS = (".", "missing", "out", "o.png", "o.mp4", "fifo.png")


def commands_of_lines() -> set[tuple[str, ...]]:
    """The names of all commands that the lines call."""
    return {find_command(shlex.split(line))[0] for line in LINES}


def find_command(arguments: list[str]) -> tuple[tuple[str, ...], click.Command]:
    """The names of a line's command, with its groups, and the command; imports its module."""
    command: click.Command = cli
    names: list[str] = []
    for name in arguments:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
        names.append(name)
    return tuple(names), command


@st.composite
def command_lines(draw: st.DrawFn, seeds: Path) -> list[str]:
    """The arguments of a line that works, after one to three changes."""
    arguments = shlex.split(draw(st.sampled_from(LINES)))
    names, command = find_command(arguments)
    paths = st.sampled_from([*(path.name for path in sorted(seeds.iterdir())), *OTHERS])
    # torch.compile takes a minute, which would look like a hang.
    options = [p for p in command.params if isinstance(p, click.Option) and "--compile" not in p.opts]
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.integers(0, 2)) == 0 and len(arguments) > len(names):
            place = draw(st.integers(len(names), len(arguments) - 1))
            arguments[place] = draw(st.one_of(paths, v.TEXTS, v.NUMBERS.map(str)))
            continue
        option = draw(st.sampled_from(options))
        values = [] if option.is_flag else [_value(draw, option, paths) for _ in range(option.nargs)]
        arguments += [draw(st.sampled_from(option.opts)), *values]
    arguments += shlex.split(SHORTENED.get(names[0], ""))
    if names[0] == "fid" and "--num" not in arguments and any(".safe" in argument for argument in arguments):
        arguments += ["--num", "4"]  # a model draws 50,000 images otherwise
    # No null bytes, which no shell can pass, and nothing outside of the case's folder.
    return [argument.replace("\0", "0").lstrip("/") for argument in arguments]


def _value(draw: st.DrawFn, option: click.Option, paths: st.SearchStrategy[str]) -> str:
    """A value near to what the option takes, more often than far from it."""
    if option.opts[-1] == "--set":
        return f"{draw(st.sampled_from(SETTINGS))}={draw(st.one_of(v.NUMBERS, v.VALUES))}"
    numbers = st.one_of(st.integers(-2, 9), st.floats(-1, 2), v.NUMBERS).map(str)
    lists = st.lists(st.integers(-1, 9), min_size=1, max_size=4).map(lambda x: ",".join(map(str, x)))
    if isinstance(option.type, click.Choice):
        near: st.SearchStrategy[str] = st.sampled_from([str(choice) for choice in option.type.choices])
    elif isinstance(option.type, click.Path):
        near = paths
    elif isinstance(option.type, click.types.IntParamType | click.types.FloatParamType):
        near = numbers
    else:
        near = st.one_of(lists, v.TEXTS, paths, numbers)
    return draw(st.one_of(near, near, near, v.TEXTS, numbers))
