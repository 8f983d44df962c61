"""The STYLE arguments: pictures, folders, built-in styles; weights; and the parameters of their mixture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ganmod_lite.errors import LiteError, WrongUsage
from ganmod_lite.files import STREAM, check_exists, result_names

if TYPE_CHECKING:
    import numpy as np

    from ganmod_lite.stylizer import Stylizer

PREFIX = "builtin:"
FOLDER = "styles"  # in the model's folder: NAME.npz with `parameters` [P]


class StyleSource(NamedTuple):
    """One STYLE: a path, or builtin:NAME; and its weight."""

    source: str
    weight: float | None

    @property
    def is_builtin(self) -> bool:
        return self.source.startswith(PREFIX)

    @property
    def name(self) -> str:
        """What results are named after."""
        if self.is_builtin:
            return self.source.removeprefix(PREFIX)
        return "stdin" if self.source == STREAM else Path(self.source).stem


class StylePlan(NamedTuple):
    """The styles of one result, with weights of sum 1."""

    name: str
    sources: tuple[StyleSource, ...]
    weights: tuple[float, ...]


def parse_style(text: str) -> StyleSource:
    """FILE, FOLDER, builtin:NAME or one of them with :WEIGHT -> StyleSource.

    A file whose name holds a colon is taken as it is.
    """
    rest = text.removeprefix(PREFIX)
    head, colon, weight = rest.rpartition(":")
    prefix = text[: len(text) - len(rest)]
    if not colon or (not prefix and Path(text).exists()):
        return StyleSource(text, None)
    try:
        return StyleSource(prefix + head, float(weight))
    except ValueError:
        if not prefix and not Path(head).exists():  # such as C:\missing.jpg
            return StyleSource(text, None)
        raise WrongUsage(
            f"style {text}: the weight is {weight!r}, expected a number, as in {prefix}{head}:0.7"
        ) from None


def plan_styles(arguments: Sequence[str]) -> list[StylePlan]:
    """One plan for each picture of a folder of styles, otherwise a single plan.

    Raises:
        LiteError: a style is missing.
        WrongUsage: for weights that cannot be, and a folder among several styles.
    """
    styles = [parse_style(text) for text in arguments]
    for style in styles:
        if not style.is_builtin:
            check_exists(style.source)
    folders = [s for s in styles if not s.is_builtin and Path(s.source).is_dir()]
    if folders and (len(styles) > 1 or styles[0].weight is not None):
        raise WrongUsage(
            f"{folders[0].source} is a folder, of which every picture stands alone: expected it without "
            "other styles and without a weight"
        )
    if folders:
        return [
            StylePlan(name, (StyleSource(file, None),), (1.0,))
            for file, name in result_names(folders[0].source).items()
        ]
    raw = [1.0 if style.weight is None else style.weight for style in styles]
    if not all(math.isfinite(weight) and weight >= 0 for weight in raw) or not sum(raw) > 0:
        listed = ", ".join(f"{weight:g}" for weight in raw)
        raise WrongUsage(f"the weights are {listed}: expected numbers from 0 up, one at least above 0")
    total = math.fsum(raw)
    name = "+".join(dict.fromkeys(style.name for style in styles))
    return [StylePlan(name, tuple(styles), tuple(weight / total for weight in raw))]


def builtin_names(folder: Path) -> list[str]:
    """Names of the built-in styles of a model's folder, sorted."""
    return sorted(file.stem for file in (folder / FOLDER).glob("*.npz"))


def load_builtin(stylizer: Stylizer, name: str) -> np.ndarray:
    """Parameters [P] of a built-in style; LiteError for an unknown or damaged one."""
    import difflib

    import numpy as np

    names = builtin_names(stylizer.folder)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        guess = f"did you mean {PREFIX}{near[0]}? " if near else ""
        known = f"`ganmod-lite --list` names all {len(names)}" if names else "this model has none"
        raise LiteError(f"there is no built-in style {name!r}: {guess}{known}")
    file = stylizer.folder / FOLDER / f"{name}.npz"
    try:
        with np.load(file) as stored:
            parameters = stored["parameters"].astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise LiteError(f"cannot read {file}: damaged ({error}); install the package again") from error
    if parameters.shape != (stylizer.num_parameters,):
        raise LiteError(
            f"{file} holds parameters {list(parameters.shape)}, expected [{stylizer.num_parameters}] for "
            "this model: write both together"
        )
    return parameters


def load_plan(stylizer: Stylizer, plan: StylePlan, *, size: int | None = None) -> np.ndarray:
    """Parameters [P] of a plan's mixture; size: short side of pictures of styles in pixels."""
    from ganmod_lite.images import read_image
    from ganmod_lite.stylizer import mix

    used = [(s, w) for s, w in zip(plan.sources, plan.weights, strict=True) if w > 0]
    vectors = []
    for style, _ in used:
        if style.is_builtin:
            vectors.append(load_builtin(stylizer, style.name))
        else:
            vectors.append(stylizer.predict(read_image(style.source), size=size))
    return vectors[0] if len(used) == 1 else mix(vectors, [weight for _, weight in used])
