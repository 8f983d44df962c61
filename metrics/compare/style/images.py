"""The images on which style-transfer models are compared, as prepared for the losses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ganmod.io.images import read_image, to_tensor
from metrics.compare.style.pairs import ImageNames, StylePairs, choose_pairs
from metrics.compare.style.pictures import content_tensor
from metrics.compare.style.protocol import StyleProtocol
from metrics.style.rotation import TurnedStyle, rotate_style_image
from style_transfer import prepare_style
from style_transfer.procedural_styles import draw_style

DRAWN_SIZE = 512  # pixels; rotation crops a style, which should not be enlarged afterwards


@dataclass(frozen=True)
class PairImages:
    """The images of the pairs by name, [1,3,H,W] in [0,1] each.

    Args:
        contents: {name: image}, sides multiples of 8.
        styles: {name: square image}.
    """

    contents: dict[str, Tensor]
    styles: dict[str, Tensor]


@dataclass(frozen=True)
class ListedImages:
    """All images of a list of pairs.

    Args:
        pairs: names of the images.
        pair_images: contents and styles.
        style_files: {name of a style: its file}.
        rotation_contents: [1,3,H,W] in [0,1], the contents for turned styles.
    """

    pairs: StylePairs
    pair_images: PairImages
    style_files: dict[str, Path]
    rotation_contents: list[Tensor]


@dataclass(frozen=True)
class TurnedStyles:
    """Turned styles: drawn ones, and image files."""

    drawn: list[TurnedStyle]
    files: list[TurnedStyle]

    @property
    def directed(self) -> list[TurnedStyle]:
        """The styles whose strokes have a direction."""
        return [style for style in (*self.drawn, *self.files) if style.has_direction]

    @property
    def undirected(self) -> list[TurnedStyle]:
        """The styles whose strokes have no direction."""
        return [style for style in (*self.drawn, *self.files) if not style.has_direction]


def read_images(protocol: StyleProtocol) -> ListedImages:
    """Read the images of protocol.pairs, or of pairs chosen from the folders.

    Raises ValueError for a folder without images, and for a listed image that is in no folder.
    """
    content_names = ImageNames([Path(protocol.content)])
    style_names = ImageNames([Path(folder) for folder in protocol.styles])
    pairs = protocol.pairs or choose_pairs(content_names, style_names)
    style_files = dict(zip(pairs.styles, style_names.find(pairs.styles), strict=True))
    content_files = dict(zip(pairs.contents, content_names.find(pairs.contents), strict=True))
    return ListedImages(
        pairs=pairs,
        pair_images=PairImages(
            {name: _content(path, protocol) for name, path in content_files.items()},
            {
                name: prepare_style(to_tensor(read_image(path))[None], protocol.size).to(protocol.device)
                for name, path in style_files.items()
            },
        ),
        style_files=style_files,
        rotation_contents=[_content(path, protocol) for path in content_names.find(pairs.rotation_contents)],
    )


def turn_styles(pairs: StylePairs, protocol: StyleProtocol) -> tuple[StylePairs, TurnedStyles]:
    """Turn the rotation styles -> the list, completed with their names, and the turned styles.

    If the list names no rotation styles, all its styles with a direction are turned.
    """
    size = protocol.size
    drawn = [
        rotate_style_image(f"{name} {seed}" if seed else name, draw_style(name, DRAWN_SIZE, seed), size=size)
        for name, seed in pairs.drawn_styles
    ]
    names = pairs.styles if pairs.rotation_styles is None else pairs.rotation_styles
    paths = ImageNames([Path(folder) for folder in protocol.styles]).find(names)
    files = []
    with protocol.progress(len(names), "turn the styles") as bar:
        for name, path in zip(names, paths, strict=True):
            style = rotate_style_image(name, read_image(path), size=size)
            if style.has_direction or pairs.rotation_styles is not None:
                files.append(style)
            bar.update()
    return replace(pairs, rotation_styles=tuple(style.name for style in files)), TurnedStyles(drawn, files)


def _content(path: Path, protocol: StyleProtocol) -> Tensor:
    return content_tensor(read_image(path), protocol.size).to(protocol.device)
