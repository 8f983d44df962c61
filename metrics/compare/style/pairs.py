"""The list of images on which style-transfer models are compared: chosen once, then stored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganmod.io.images import list_images

NUM_CONTENTS, NUM_STYLES = 20, 20
NUM_ROTATION_CONTENTS = 3
# Drawn styles whose rotation is measured: with a direction by their response, otherwise by patches.
DRAWN_STYLES = ("stripes", "hatching", "brush_strokes", "circles_and_squares", "dots", "mosaic")
ABOUT = (
    "Every content is stylized with every style. Rotation and interpolation: every rotation content with "
    "every drawn style [name, seed] and every rotation style."
)


@dataclass(frozen=True)
class StylePairs:
    """Names of images, relative to the protocol's folders.

    Args:
        contents: photos to stylize.
        styles: style images.
        rotation_contents: contents for turned and mixed styles.
        rotation_styles: styles to turn and mix; None for those of `styles` with a direction.
        drawn_styles: (name, seed) of procedural styles to turn and mix.
    """

    contents: tuple[str, ...]
    styles: tuple[str, ...]
    rotation_contents: tuple[str, ...]
    rotation_styles: tuple[str, ...] | None
    drawn_styles: tuple[tuple[str, int], ...]


class ImageNames:
    """The images of one or several folders by name: the path relative to its folder, with "/".

    A name that occurs in several folders is prefixed with the folder's name.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        """List the images. Raises ValueError for a folder without images, and for ambiguous names."""
        self.by_folder: list[list[str]] = []
        self._files: dict[str, Path] = {}
        listed = [[(p.relative_to(folder).as_posix(), p) for p in list_images(folder)] for folder in folders]
        counts = Counter(name for images in listed for name, _ in images)
        for folder, images in zip(folders, listed, strict=True):
            names = {f"{folder.resolve().name}/{n}" if counts[n] > 1 else n: path for n, path in images}
            if clash := sorted(names.keys() & self._files.keys()):
                raise ValueError(f"two folders {folder.name!r} both hold {clash[0]}: rename one of them")
            self.by_folder.append(list(names))
            self._files |= names
        self.folders = list(folders)

    def find(self, names: Sequence[str]) -> list[Path]:
        """The files of these names. Raises ValueError if one is in none of the folders."""
        missing = [name for name in names if name not in self._files]
        if missing:
            where = ", ".join(map(str, self.folders))
            raise ValueError(
                f"{len(missing)} images of the list are not in {where}, first {missing[0]}: check the folders"
            )
        return [self._files[name] for name in names]


def spread_names(names: Sequence[str], count: int) -> list[str]:
    """`count` evenly spaced names (the middles of equal parts of the list), or all if there are fewer."""
    count = min(count, len(names))
    return [names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)]


def choose_pairs(contents: ImageNames, styles: ImageNames) -> StylePairs:
    """At most 20 contents and 20 styles, evenly spaced; the styles' folders have equal shares."""
    chosen: list[str] = []
    for i, names in enumerate(styles.by_folder):
        folders_left = len(styles.by_folder) - i
        chosen += spread_names(names, -(-(NUM_STYLES - len(chosen)) // folders_left))
    return complete({"contents": spread_names(contents.by_folder[0], NUM_CONTENTS), "styles": chosen})


def complete(names: Mapping[str, Any]) -> StylePairs:
    """StylePairs from a list of at least contents and styles; the rest is chosen if missing."""
    drawn = names.get("drawn_styles", [(name, 0) for name in DRAWN_STYLES])
    rotation_styles = names.get("rotation_styles")
    return StylePairs(
        contents=tuple(names["contents"]),
        styles=tuple(names["styles"]),
        rotation_contents=tuple(
            names.get("rotation_contents") or spread_names(names["contents"], NUM_ROTATION_CONTENTS)
        ),
        rotation_styles=None if rotation_styles is None else tuple(rotation_styles),
        drawn_styles=tuple((name, seed) for name, seed in drawn),
    )


def read_pairs(path: Path) -> StylePairs:
    """Read a list written by `pairs_to_json`, or one of "contents" and "styles" alone.

    Raises ValueError, naming the file, for anything else.
    """
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        pairs = complete(names)
        lists = (pairs.contents, pairs.styles, pairs.rotation_contents, pairs.rotation_styles or ())
        if not all(isinstance(name, str) for names in lists for name in names):
            raise TypeError("a name is no string")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'{path} is no list of pairs ({type(error).__name__}: {error}): expected JSON with "contents" '
            'and "styles", lists of file names, as the pairs.json of another comparison'
        ) from error
    if not pairs.contents or not pairs.styles:
        raise ValueError(f"{path} names {len(pairs.contents)} contents and {len(pairs.styles)} styles")
    return pairs


def pairs_to_json(pairs: StylePairs) -> dict[str, Any]:
    """Plain values, which `read_pairs` reads back."""
    return {"about": ABOUT, **asdict(pairs)}
