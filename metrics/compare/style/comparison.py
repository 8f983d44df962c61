"""Compare style-transfer models: measure them on one list of pairs, write tables and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from ganmod.features.vgg import VGGFeatures, load_features
from metrics.compare.style.entries import Entry, copied_entry, model_entry, unchanged_entry
from metrics.compare.style.exhibits import Exhibits
from metrics.compare.style.images import PairImages, TurnedStyles, read_images, turn_styles
from metrics.compare.style.optima import SETTINGS, PixelOptima
from metrics.compare.style.protocol import OPTIMISED, Models, StyleProtocol
from metrics.compare.style.report import StyleComparison
from metrics.compare.style.rows import Lpips, Measures, make_rows
from metrics.images.lpips import load_lpips
from metrics.progress import Progress
from metrics.style import responses as style_responses
from metrics.style import table as style_table
from metrics.style.amortisation import Optima, gap_images, measure_optima
from metrics.style.interpolation import WEIGHTS, score_interpolation
from metrics.style.pair_pictures import PairPictures
from metrics.style.rotation import ANGLES, score_rotation, score_structure
from metrics.style.table import StyleRow
from style_transfer import StyleTransferModel, load


def compare_style_models(
    models: Models, protocol: StyleProtocol, *, command: str | None = None
) -> StyleComparison:
    """Measure style-transfer models, and other programs' pictures, on the same pairs of images.

    Each row has losses, similarity and patch distances of every pair. Models also have their time and the
    response of their strokes to turned and mixed styles.

    Args:
        models: {name of the row: model, or model file}.
        protocol: how to measure.
        command: the command line, for the report.

    Raises:
        ValueError: for files that are missing or damaged; see also `StyleProtocol.check`.
    """
    protocol.check(models)
    device, size = protocol.device, protocol.size
    entries = []
    for name, model in models.items():
        loaded = model if isinstance(model, StyleTransferModel) else load(model)
        entries.append(model_entry(name, loaded.to(device), size))
    network = load_features(protocol.loss_network, path=protocol.feature_weights).to(device)
    lpips = None if protocol.lpips_weights is None else load_lpips(protocol.lpips_weights).to(device)
    images = read_images(protocol)
    contents, styles = list(images.pair_images.contents), list(images.pair_images.styles)
    pictures = [
        PairPictures(name, Path(folder), contents, styles) for name, folder in protocol.pictures.items()
    ]
    optima = _optima(protocol, images.pair_images, network)
    if protocol.optimised is not None:
        pictures.append(PairPictures(OPTIMISED, Path(protocol.optimised), contents, styles))

    pairs, turned = turn_styles(images.pairs, protocol)
    unchanged = unchanged_entry()
    responses = [
        _responses(entry, images.rotation_contents, turned, lpips, protocol.progress)
        for entry in (*entries, unchanged, copied_entry())
    ]
    rows = make_rows(
        [entry.contestant for entry in entries],
        pictures,
        unchanged.contestant,
        images.pair_images,
        Measures(network, lpips, optima, protocol.progress),
    )
    return StyleComparison(
        rows=rows,
        responses=responses,
        differences=_differences(rows[:-1], responses),
        turned=[*turned.drawn, *turned.files],
        pairs=pairs,
        facts={"command": command} | protocol.facts(models) | _picture_facts(protocol, pictures, optima),
        exhibits=Exhibits(entries, pictures, images, turned, protocol),
    )


def _optima(protocol: StyleProtocol, images: PairImages, network: VGGFeatures) -> Optima | None:
    """Optima for the gaps, if requested; also optimises pixels of all pairs, if requested."""
    if protocol.optima is None and protocol.optimised is None:
        return None
    pixels = PixelOptima(
        images.contents,
        images.styles,
        network,
        size=protocol.size,
        settings=SETTINGS,
        folder=None if protocol.optimised is None else Path(protocol.optimised),
        progress=protocol.progress,
    )
    optima = None
    if protocol.optima is not None:
        contents, styles = gap_images(list(images.contents)), gap_images(list(images.styles))
        with protocol.progress(len(contents) * len(styles), "optima") as bar:
            optima = measure_optima(
                {name: images.contents[name] for name in contents},
                {name: images.styles[name] for name in styles},
                network,
                optimise=pixels,
                size=protocol.size,
                settings=asdict(SETTINGS),
                file=Path(protocol.optima),
                done=bar.update,
            )
    if protocol.optimised is not None:
        with protocol.progress(len(images.contents) * len(images.styles), OPTIMISED) as bar:
            for style in images.styles:
                for content in images.contents:
                    pixels(content, style)
                    bar.update()
    return optima


def _picture_facts(
    protocol: StyleProtocol, pictures: Sequence[PairPictures], optima: Optima | None
) -> dict[str, Any]:
    """Facts about the pictures and optima, plain values."""
    sizes = {
        row.name: {"folder": row.folder.name, "cropped": len(row.cropped), "resized": len(row.resized)}
        for row in pictures
    }
    if optima is None or protocol.optima is None:
        return {"pictures": sizes, "optima": None}
    about = {name: value for name, value in optima.to_json().items() if name not in ("form", "columns")}
    file = Path(protocol.optima).name
    return {"pictures": sizes, "optima": about | {"file": file, "pairs": len(optima.losses)}}


def _responses(
    entry: Entry, contents: Sequence[Tensor], turned: TurnedStyles, lpips: Lpips | None, progress: Progress
) -> style_responses.ResponseRow:
    contestant = entry.contestant
    directed, undirected = turned.directed, turned.undirected
    num_results = len(directed) * (len(ANGLES) + len(WEIGHTS)) + len(undirected) * len(ANGLES[::3])
    with progress(num_results * len(contents), f"{contestant.name}, turned") as bar:
        return style_responses.make_response_row(
            contestant.name,
            score_rotation(contestant, contents, directed, lpips=lpips, done=bar.update),
            score_interpolation(
                contestant, contents, directed, interpolate=entry.interpolate, done=bar.update
            ),
            score_structure(contestant, contents, undirected, done=bar.update),
        )


def _differences(
    rows: Sequence[StyleRow], responses: Sequence[style_responses.ResponseRow]
) -> dict[str, dict[str, tuple[float, float]]]:
    """{"row - first row": {measure: (mean, standard error) pair by pair}}."""
    first, by_name = rows[0], {response.model: response for response in responses}
    differences = {}
    for row in rows[1:]:
        measures = {name: style_table.paired_difference(first, row, name) for name in row.means}
        if first.model in by_name and row.model in by_name:
            response = by_name[row.model]
            measures |= {
                name: style_responses.response_difference(by_name[first.model], response, name)
                for name in response.means
            }
        differences[f"{row.model} - {first.model}"] = measures
    return differences
