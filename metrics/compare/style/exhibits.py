"""The pictures of a comparison of style-transfer models, made when the report is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganmod.io.images import read_image, to_uint8
from ganmod.io.small_jpeg import write_small_jpeg
from metrics.compare.style import pairs, pictures
from metrics.compare.style.entries import Entry
from metrics.compare.style.images import ListedImages, TurnedStyles
from metrics.compare.style.protocol import StyleProtocol
from metrics.style.pair_pictures import PairPictures
from metrics.style.rotation import TurnedStyle

MAX_CONTENTS, MAX_STYLES = 3, 6  # in the picture of pairs


@dataclass(frozen=True)
class Exhibits:
    """The pictures of a comparison.

    Args:
        entries: the models.
        others: other programs' pictures.
        images: the images of the pairs.
        turned: the turned styles.
        protocol: of the comparison.
    """

    entries: Sequence[Entry]
    others: Sequence[PairPictures]
    images: ListedImages
    turned: TurnedStyles
    protocol: StyleProtocol

    def figures(self) -> Iterator[tuple[np.ndarray, str]]:
        """(picture uint8 [H,W,3], caption) for the report: pairs; the strongest styles, turned and mixed."""
        yield self._pairs(), "Some of the pairs that were measured."
        if not self.entries:
            return
        contestants = [entry.contestant for entry in self.entries]
        mixers = [(entry.contestant, entry.interpolate) for entry in self.entries]
        content = self.images.rotation_contents[0]
        for style in _strongest_directed(self.turned.drawn, 1) + _strongest_directed(self.turned.files, 1):
            rotation = pictures.rotation_picture(contestants, content, [style])
            yield rotation, f"{style.name}, turned, and what each model makes of it."
            mixture = pictures.interpolation_picture(mixers, content, style)
            yield mixture, f"{style.name} and its quarter turn, mixed."

    def write_free(self, out: Path) -> None:
        """Write pictures of bundled photos and drawn styles only, small enough for a repository."""
        if not self.entries:
            return
        contestants = [entry.contestant for entry in self.entries]
        size, device = self.protocol.size, self.protocol.device
        picture = pictures.free_pair_picture(contestants, styles=pairs.DRAWN_STYLES, size=size, device=device)
        write_small_jpeg(out / "comparison.jpg", picture)
        if drawn := _strongest_directed(self.turned.drawn, 2):
            content = pictures.free_content(size, device)
            write_small_jpeg(out / "rotation.jpg", pictures.rotation_picture(contestants, content, drawn))

    def _pairs(self) -> np.ndarray:
        images, style_files = self.images.pair_images, self.images.style_files
        contents, styles = list(images.contents), list(images.styles)
        shown_contents = contents[:: -(-len(contents) // MAX_CONTENTS)]
        shown_styles = pairs.spread_names(styles, MAX_STYLES)

        def reader(row: PairPictures) -> Callable[[int, int], np.ndarray]:
            def read(c: int, s: int) -> np.ndarray:
                content, style = shown_contents[c], shown_styles[s]
                like = images.contents[content]
                return to_uint8(row.read(contents.index(content), styles.index(style), like)[0])

            return read

        return pictures.pair_picture(
            [entry.contestant for entry in self.entries],
            [images.contents[name] for name in shown_contents],
            {name: read_image(style_files[name]) for name in shown_styles},
            others={row.name: reader(row) for row in self.others},
        )


def _strongest_directed(styles: Sequence[TurnedStyle], count: int) -> list[TurnedStyle]:
    """At most `count` styles with a direction, the strongest first."""
    directed = [style for style in styles if style.has_direction]
    return sorted(directed, key=lambda style: -style.strength)[:count]
