"""Content and style distance, and lattice, of models and of other programs' pictures on held-out pairs.

Every content of a list with every style of it, as `benchmarks/peer_pictures.py` prepares them: contents with
a short side of --size, styles as squares of it, which models see at that size; results rounded to 8 bits.
Content at relu4_1, style as mean and deviation at relu1_1 to relu4_1, features divided by their RMS; means
over pairs.

    python benchmarks/held_out_distances.py model.safetensors MicroAST=peers/microast photo \\
        --content photos --styles paintings --styles textures --pairs results/style/held_out_pairs.json \\
        --every 4 --size 512 --network vgg19
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import style_transfer
from ganmod.features.style_losses import content_loss, mean_std_loss
from ganmod.features.vgg import load_features
from ganmod.io.images import read_image, to_tensor, to_uint8
from metrics.compare.style.pairs import ImageNames, choose_pairs, read_pairs
from metrics.compare.style.pictures import content_tensor
from metrics.images.lattice import LatticeMeter
from metrics.images.structure import flat_mask, luma
from metrics.style.pair_pictures import PairPictures
from metrics.style.pair_scores import to_array
from style_transfer.prepare import prepare_style

Result = Callable[[int, int], Tensor]  # (index of a content, of a style) -> [1,3,H,W] in [0,1]


def results_of(subject: str, contents: dict[str, Tensor], styles: dict[str, Tensor]) -> Result:
    """The results of a model file, of a folder NAME=DIR, or of "photo", the content itself."""
    inputs = list(contents.values())
    if subject == "photo":
        return lambda c, s: inputs[c]
    if "=" in subject:
        name, folder = subject.split("=", 1)
        pictures = PairPictures(name, Path(folder), list(contents), list(styles))
        return lambda c, s: pictures.read(c, s, inputs[c])
    model = style_transfer.load(subject)
    params = [model.predict(style) for style in styles.values()]

    def result(c: int, s: int) -> Tensor:
        image = model.decode(model.encode(inputs[c]), params[s]).clamp(0, 1)
        return to_tensor(to_uint8(image[0]))[None]

    return result


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subjects", nargs="+", help="Model files, NAME=FOLDER of pictures, or photo.")
    parser.add_argument("--content", type=Path, required=True, help="Folder of photos.")
    parser.add_argument("--styles", type=Path, required=True, action="append", help="Of styles; repeatable.")
    parser.add_argument("--pairs", type=Path, help="List of pairs; none: as ganmod compare chooses them.")
    parser.add_argument("--every", type=int, default=1, help="Take every n-th content and style of the list.")
    parser.add_argument("--size", type=int, default=256, help="Pixels.")
    parser.add_argument("--network", default="vgg19", help="Feature network: vgg19, vgg19-slim ...")
    parser.add_argument("--feature-weights", type=Path, help="Its weights, where they are not found.")
    parser.add_argument("--json", type=Path, help="Write the figures there, too.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    content_names, style_names = ImageNames([arguments.content]), ImageNames(arguments.styles)
    pairs = (
        read_pairs(arguments.pairs)
        if arguments.pairs is not None
        else choose_pairs(content_names, style_names)
    )
    names = pairs.contents[:: arguments.every], pairs.styles[:: arguments.every]
    contents = {
        name: content_tensor(read_image(file), arguments.size)
        for name, file in zip(names[0], content_names.find(names[0]), strict=True)
    }
    styles = {
        name: prepare_style(to_tensor(read_image(file))[None], arguments.size)
        for name, file in zip(names[1], style_names.find(names[1]), strict=True)
    }
    network = load_features(arguments.network, path=arguments.feature_weights)
    results = {subject: results_of(subject, contents, styles) for subject in arguments.subjects}
    sums = {subject: np.zeros(2) for subject in results}
    meters = {subject: LatticeMeter() for subject in results}
    of_styles = [network.normalized(style) for style in styles.values()]
    greys = [luma(to_array(style)) for style in styles.values()]
    with tqdm(total=len(contents) * len(styles) * len(results), disable=None) as bar:
        for c, content in enumerate(contents.values()):
            of_content = network.normalized(content)
            mask = flat_mask(to_array(content))
            for s, of_style in enumerate(of_styles):
                for subject, result in results.items():
                    image = result(c, s)
                    features = network.normalized(image)
                    sums[subject] += [
                        content_loss(features, of_content).item(),
                        mean_std_loss(features, of_style).item(),
                    ]
                    meters[subject].add(luma(to_array(image)), mask, greys[s])
                    bar.update()
    count = len(contents) * len(styles)
    figures = {
        subject: {
            "content": round(total[0] / count, 4),
            "style": round(total[1] / count, 4),
            "lattice": round(meters[subject].lattice().share, 4),
        }
        for subject, total in sums.items()
    }
    about = {"network": arguments.network, "size": arguments.size, "pairs": count}
    print(f"{count} pairs, {arguments.network}, {arguments.size} px: content, style, lattice")
    for subject, row in figures.items():
        print(f"{row['content']:8.3f} {row['style']:8.3f} {row['lattice']:8.3f}  {subject}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({**about, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
