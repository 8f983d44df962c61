"""Pictures by another program: a folder of CONTENT--STYLE.png, measured like a model's results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor

from ganmod.io.images import center_crop, read_image, resize, to_tensor

MULTIPLE = 8  # pixels; contents are cropped to multiples of it, other programs may pad to them
MAX_STRETCH = 0.03  # larger changes of the aspect mean another image, or another part of it


def picture_name(content: str, style: str) -> str:
    """The file of a pair: the stems of its images' names, joined as `ganmod stylize` does."""
    return f"{PurePosixPath(content).stem}--{PurePosixPath(style).stem}.png"


def pair_files(folder: Path, contents: Sequence[str], styles: Sequence[str]) -> list[list[Path]]:
    """The files of all pairs, by content and style. Raises ValueError if two pairs would share one."""
    files = [[folder / picture_name(c, s) for s in styles] for c in contents]
    every = [file for row in files for file in row]
    if doubled := len(every) - len(set(every)):
        raise ValueError(
            f"{doubled} pairs share a file of {folder} with another, as two of the images have the same "
            "name but for folder and suffix: rename one of them"
        )
    return files


class PairPictures:
    """A row of the table from a folder of pictures. It has no model, so no parameters and no time."""

    trained_parameters: None = None
    all_parameters: None = None

    def __init__(self, name: str, folder: Path, contents: Sequence[str], styles: Sequence[str]) -> None:
        """Find the pictures.

        Args:
            folder: holds CONTENT--STYLE.png of every pair.
            contents: names of the content images.
            styles: names of the style images.

        Raises:
            ValueError: if a picture is missing, or two pairs have the same file.
        """
        self.name, self.folder = name, folder
        self.files = pair_files(folder, contents, styles)
        self.cropped: set[Path] = set()  # of those read so far
        self.resized: set[Path] = set()
        every = [file for row in self.files for file in row]
        missing = [file for file in every if not file.is_file()]
        if missing:
            raise ValueError(
                f"{name}: {len(missing)} of {len(every)} pictures are missing, first {missing[0]}: expected "
                "CONTENT--STYLE.png of every pair, as `ganmod stylize` writes a folder, of the content's size"
            )

    def read(self, content: int, style: int, like: Tensor) -> Tensor:
        """Read the picture of a pair, [1,3,H,W] in [0,1], at the content's size.

        A picture that is larger by less than 8 pixels is center-cropped; one of another size and the same
        aspect within 3 % is resized (bicubic). `cropped` and `resized` collect the files of both.

        Args:
            like: the content, [1,3,H,W].

        Raises:
            ValueError: for another aspect, and a file that is not an image.
        """
        file = self.files[content][style]
        picture = read_image(file)
        height, width = like.shape[2:]
        more = (picture.shape[0] - height, picture.shape[1] - width)
        if more == (0, 0):
            pass
        elif all(0 <= side < MULTIPLE for side in more):
            self.cropped.add(file)
            picture = center_crop(picture, (height, width))
        else:
            _check_aspect(file, picture, height, width)
            self.resized.add(file)
            picture = resize(picture, (height, width), resample="bicubic")
        return to_tensor(picture)[None].to(like)


def _check_aspect(file: Path, picture: np.ndarray, height: int, width: int) -> None:
    """Accept the aspect of the uncropped content: at 256 pixels, 7 pixels are 2.7 %."""
    stretch = picture.shape[1] / picture.shape[0] * height / width
    if not 1 / (1 + MAX_STRETCH) <= stretch <= 1 + MAX_STRETCH:
        raise ValueError(
            f"{file} is {picture.shape[0]} x {picture.shape[1]} pixels, expected {height} x {width}, or that "
            "aspect: stylize the content as a whole"
        )
