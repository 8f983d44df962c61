"""`ganmod compare --style`: style-transfer models on one list of pairs, with rotation and interpolation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ganmod.cli.compare.style_rows import Lpips, Measures, PairImages, make_rows
from ganmod.cli.options.checks import check_device
from ganmod.distributed import chosen_device
from ganmod.features.vgg import VGGFeatures, load_features
from ganmod.io.atomic_write import atomic_write
from ganmod.io.images import read_image, to_tensor, to_uint8
from ganmod.io.small_jpeg import write_small_jpeg
from metrics.compare import style_pairs, style_pictures
from metrics.compare.style_entries import Entry, copied_entry, model_entry, unchanged_entry
from metrics.compare.style_facts import StyleInputs
from metrics.compare.style_optima import SETTINGS, PixelOptima
from metrics.compare.style_report import Comparison, style_comparison_report, tables
from metrics.images.lpips import load_lpips
from metrics.style import responses as style_responses
from metrics.style import table as style_table
from metrics.style.amortisation import Optima, gap_images, measure_optima
from metrics.style.interpolation import WEIGHTS, score_interpolation
from metrics.style.pair_pictures import PairPictures
from metrics.style.pair_scores import Contestant
from metrics.style.rotation import ANGLES, TurnedStyle, score_rotation, score_structure, turn_style
from metrics.style.table import StyleRow
from style_transfer import load, prepare_style
from style_transfer.procedural_styles import draw_style

OPTIMISED = "optimised"  # the name of the row
DRAWN_SIZE = 512  # pixels; a style that is turned loses its corners, and should not be enlarged
MIN_SIZE = 32  # pixels


def compare_style_models(
    inputs: StyleInputs,
    *,
    out: Path,
    device: str,
    threads: int | None,
    pairs: Path | None,
    as_json: bool,
) -> None:
    """Compare style-transfer models and pictures; print the table and write everything into `out`.

    threads: of torch; None leaves them. pairs: the pairs.json of an earlier comparison, so that the same
    images are used; without it, or where it does not exist yet, at most 20 contents and 20 styles are chosen
    and written there. Raises ValueError for files that are missing or damaged.
    """
    _check(inputs, out)
    check_device(device)
    place = chosen_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    size = inputs.size
    entries = [model_entry(name, load(path).to(place), size) for name, path in inputs.models.items()]
    network = load_features(inputs.loss_network, path=inputs.feature_weights).to(place)
    lpips = None if inputs.lpips_weights is None else load_lpips(inputs.lpips_weights).to(place)
    content_names, style_names = (
        style_pairs.ImageNames([inputs.content]),
        style_pairs.ImageNames(inputs.styles),
    )
    if pairs is not None and pairs.exists():
        chosen = style_pairs.read_pairs(pairs)
    else:
        chosen = style_pairs.choose_pairs(content_names, style_names)
    content_files = dict(zip(chosen.contents, content_names.find(chosen.contents), strict=True))
    style_files = dict(zip(chosen.styles, style_names.find(chosen.styles), strict=True))
    pictures = [
        PairPictures(name, folder, list(content_files), list(style_files))
        for name, folder in inputs.pictures.items()
    ]
    images = PairImages(
        {name: _content(path, size, place) for name, path in content_files.items()},
        {name: _style(path, size, place) for name, path in style_files.items()},
    )
    optima = _optima(inputs, images, network, pictures)

    drawn, from_files = _drawn_styles(chosen, size), _file_styles(chosen, style_names, size)
    chosen = replace(chosen, rotation_styles=tuple(style.name for style in from_files))
    turned = [*drawn, *from_files]
    directed = [style for style in turned if style.has_direction]
    undirected = [style for style in turned if not style.has_direction]
    turning = [_content(path, size, place) for path in content_names.find(chosen.rotation_contents)]
    unchanged = unchanged_entry()
    responses = [
        _responses(entry, turning, directed, undirected, lpips)
        for entry in (*entries, unchanged, copied_entry())
    ]
    contestants = [entry.contestant for entry in entries]
    rows = make_rows(contestants, pictures, unchanged.contestant, images, Measures(network, lpips, optima))
    comparison = Comparison(
        rows=rows,
        responses=responses,
        differences=_differences(rows[:-1], responses),
        turned=turned,
        pairs=chosen,
        facts=inputs.facts(place) | _facts(inputs, pictures, optima),
    )

    # The figures first: they took the time.
    record = comparison.to_json()
    _write(out / "comparison.json", json.dumps(record) + "\n")
    for file in {out / "pairs.json", *([pairs] if pairs is not None and not pairs.exists() else [])}:
        _write(file, json.dumps(style_pairs.to_json(chosen), indent=1) + "\n")
    _write(out / "table.md", tables(comparison) + "\n")
    _write(out / "table.csv", comparison.to_csv())

    report = style_comparison_report(comparison)
    report.heading("Pictures")
    report.figure(
        _some_pairs(contestants, pictures, images, style_files), "Some of the pairs that were measured."
    )
    for style in (_most_directed(drawn) + _most_directed(from_files)) if entries else []:
        caption = f"{style.name}, turned, and what each model makes of it."
        report.figure(style_pictures.rotation_picture(contestants, turning[0], [style]), caption)
        caption = f"{style.name} and its quarter turn, mixed."
        mixed = [(entry.contestant, entry.interpolate) for entry in entries]
        report.figure(style_pictures.interpolation_picture(mixed, turning[0], style), caption)
    report.write(out / "report.html")
    if entries:
        _write_pictures(contestants, _most_directed(drawn, 2), out, size, place)
    click.echo(f"wrote {out / 'report.html'}, comparison.json, table.md, table.csv, pairs.json", err=True)
    click.echo(json.dumps(record) if as_json else tables(comparison))


def _check(inputs: StyleInputs, out: Path) -> None:
    """click.UsageError for what needs no image to be known as wrong."""
    if not (inputs.models or inputs.pictures or inputs.optimised or inputs.optima):
        raise click.UsageError("no model is given: name at least one style-transfer model file")
    names = [*inputs.models, *inputs.pictures, *([OPTIMISED] if inputs.optimised else [])]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise click.UsageError(f"two rows are named {doubled[0]!r}: give each its own name")
    if inputs.size < MIN_SIZE:
        raise click.UsageError(
            f"--size {inputs.size}: expected {MIN_SIZE} pixels or more; strokes of smaller images have no "
            "direction that can be measured"
        )
    if out.is_file():
        raise click.UsageError(f"--out {out} is a file, but the results need a folder")


def _optima(
    inputs: StyleInputs, images: PairImages, network: VGGFeatures, pictures: list[PairPictures]
) -> Optima | None:
    """What gaps are measured from, if asked for; the row of optimised pixels is added to the pictures."""
    if inputs.optima is None and inputs.optimised is None:
        return None
    pixels = PixelOptima(
        images.contents, images.styles, network, size=inputs.size, settings=SETTINGS, folder=inputs.optimised
    )
    optima = None
    if inputs.optima is not None:
        contents, styles = gap_images(list(images.contents)), gap_images(list(images.styles))
        with tqdm(total=len(contents) * len(styles), desc="optima", disable=None) as bar:
            optima = measure_optima(
                {name: images.contents[name] for name in contents},
                {name: images.styles[name] for name in styles},
                network,
                optimise=pixels,
                size=inputs.size,
                settings=asdict(SETTINGS),
                file=inputs.optima,
                done=bar.update,
            )
    if inputs.optimised is not None:
        every = [(content, style) for style in images.styles for content in images.contents]
        for content, style in tqdm(every, desc=OPTIMISED, disable=None):
            pixels(content, style)
        names = (list(images.contents), list(images.styles))
        pictures.append(PairPictures(OPTIMISED, inputs.optimised, *names))
    return optima


def _facts(inputs: StyleInputs, pictures: Sequence[PairPictures], optima: Optima | None) -> dict[str, Any]:
    """What was found about the pictures and optima, plain values."""
    shown = {
        row.name: {"folder": row.folder.name, "cropped": len(row.cropped), "resized": len(row.resized)}
        for row in pictures
    }
    if optima is None or inputs.optima is None:
        return {"pictures": shown, "optima": None}
    about = {name: value for name, value in optima.to_json().items() if name not in ("form", "columns")}
    return {
        "pictures": shown,
        "optima": about | {"file": inputs.optima.name, "pairs": len(optima.losses)},
    }


def _some_pairs(
    contestants: Sequence[Contestant],
    pictures: Sequence[PairPictures],
    images: PairImages,
    style_files: Mapping[str, Path],
) -> np.ndarray:
    """Three contents and six styles at most."""
    contents, styles = list(images.contents), list(images.styles)
    shown = (contents[:: -(-len(contents) // 3)], style_pairs.spread(styles, 6))

    def reader(row: PairPictures) -> Callable[[int, int], np.ndarray]:
        def read(c: int, s: int) -> np.ndarray:
            like = images.contents[shown[0][c]]
            found = row.read(contents.index(shown[0][c]), styles.index(shown[1][s]), like)
            return to_uint8(found[0])

        return read

    return style_pictures.pair_picture(
        contestants,
        [images.contents[name] for name in shown[0]],
        {name: read_image(style_files[name]) for name in shown[1]},
        others={row.name: reader(row) for row in pictures},
    )


def _style(path: Path, size: int, place: torch.device) -> Tensor:
    return prepare_style(to_tensor(read_image(path))[None], size).to(place)


def _content(path: Path, size: int, place: torch.device) -> Tensor:
    return style_pictures.content_tensor(read_image(path), size).to(place)


def _drawn_styles(pairs: style_pairs.StylePairs, size: int) -> list[TurnedStyle]:
    return [
        turn_style(f"{name} {seed}" if seed else name, draw_style(name, DRAWN_SIZE, seed), size=size)
        for name, seed in pairs.drawn_styles
    ]


def _file_styles(
    pairs: style_pairs.StylePairs, names: style_pairs.ImageNames, size: int
) -> list[TurnedStyle]:
    """The rotation styles of the list; where it names none, those of its styles that have a direction."""
    named = pairs.styles if pairs.rotation_styles is None else pairs.rotation_styles
    files = tqdm(names.find(named), desc="turn the styles", disable=None)
    found = [turn_style(name, read_image(path), size=size) for name, path in zip(named, files, strict=True)]
    return [style for style in found if style.has_direction or pairs.rotation_styles is not None]


def _responses(
    entry: Entry,
    contents: Sequence[Tensor],
    directed: Sequence[TurnedStyle],
    undirected: Sequence[TurnedStyle],
    lpips: Lpips | None,
) -> style_responses.ResponseRow:
    contestant = entry.contestant
    num_results = len(directed) * (len(ANGLES) + len(WEIGHTS)) + len(undirected) * len(ANGLES[::3])
    bar = tqdm(total=num_results * len(contents), desc=f"{contestant.name}, turned", disable=None)
    with bar:
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
    found = {}
    for row in rows[1:]:
        differences = {name: style_table.paired_difference(first, row, name) for name in row.means}
        if first.model in by_name and row.model in by_name:
            response = by_name[row.model]
            differences |= {
                name: style_responses.response_difference(by_name[first.model], response, name)
                for name in response.means
            }
        found[f"{row.model} - {first.model}"] = differences
    return found


def _most_directed(styles: Sequence[TurnedStyle], count: int = 1) -> list[TurnedStyle]:
    """At most `count` of those with a direction, the strongest first."""
    directed = [style for style in styles if style.has_direction]
    return sorted(directed, key=lambda style: -style.strength)[:count]


def _write_pictures(
    contestants: Sequence[Contestant],
    drawn: Sequence[TurnedStyle],
    out: Path,
    size: int,
    place: torch.device,
) -> None:
    """Pictures of bundled photos and drawn styles alone, small enough for a repository."""
    picture = style_pictures.free_pair_picture(
        contestants, styles=style_pairs.DRAWN_STYLES, size=size, device=place
    )
    write_small_jpeg(out / "comparison.jpg", picture)
    if drawn:
        content = style_pictures.free_content(size, place)
        write_small_jpeg(out / "rotation.jpg", style_pictures.rotation_picture(contestants, content, drawn))


def _write(path: Path, text: str) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    atomic_write(path, write)
