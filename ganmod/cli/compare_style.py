"""`ganmod compare --style`: style-transfer models on one list of pairs, with rotation and interpolation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from torch import Tensor
from tqdm import tqdm

from ganmod.atomic_write import atomic_write
from ganmod.cli import style_pairs, style_pictures
from ganmod.cli.option_checks import check_device
from ganmod.cli.style_comparison_report import Comparison, style_comparison_report, tables
from ganmod.cli.style_facts import REPEATS, StyleInputs
from ganmod.features import VGGFeatures, load_features
from ganmod.images import read_image, to_tensor
from ganmod.small_jpeg import write_small_jpeg
from metrics import style_responses, style_table
from metrics.interpolation_response import WEIGHTS, score_interpolation
from metrics.lpips_distance import load_lpips
from metrics.rotation_response import (
    ANGLES,
    TurnedStyle,
    score_rotation,
    score_structure,
    turn_style,
)
from metrics.style_table import Contestant, StyleRow
from style_transfer import StyleTransferModel, load, prepare_style
from style_transfer.prepare import interpolate_params
from style_transfer.procedural_styles import draw_style
from training.distributed import chosen_device

UNCHANGED, COPIED = "(content unchanged)", "(style itself)"
DRAWN_SIZE = 512  # pixels; a style that is turned loses its corners, and should not be enlarged
MIN_SIZE = 32  # pixels

Lpips = Callable[[Tensor, Tensor], Tensor]


class Entry(NamedTuple):
    """A model in the comparison, and how two of its predictions are mixed."""

    contestant: Contestant
    interpolate: style_pictures.Interpolate


class Unchanged:
    """The model that leaves the content as it is: what is measured before anything is done."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def predict(self, style: Tensor) -> None:
        return None

    def decode(self, features: Tensor, params: None) -> Tensor:
        return features


class Copied(Unchanged):
    """The model that shows the style instead of the content: what the strokes can do at best."""

    def predict(self, style: Tensor) -> Any:
        return style

    def decode(self, features: Tensor, params: Any) -> Tensor:
        height, width = features.shape[2:]
        down, right = (-(-side // params.shape[i + 2]) for i, side in enumerate((height, width)))
        return params.repeat(1, 1, down, right)[:, :, :height, :width]


def compare_style_models(
    models: Mapping[str, Path],
    *,
    content: Path,
    styles: tuple[Path, ...],
    out: Path,
    loss_network: str,
    feature_weights: Path | None,
    lpips_weights: Path | None,
    size: int,
    device: str,
    threads: int | None,
    pairs: Path | None,
    as_json: bool,
) -> None:
    """Compare style-transfer model files {name: file}; print the table and write everything into `out`.

    content, styles: folders of images. loss_network, feature_weights: see `load_features`. lpips_weights:
    SqueezeNet 1.1; without it LPIPS is left out. size: short side of the contents and side of the styles in
    pixels. threads: of torch; None leaves them. pairs: the pairs.json of an earlier comparison, so that the
    same images are used; without it, or where it does not exist yet, at most 20 contents and 20 styles are
    chosen and written there. Raises ValueError for files that are missing or damaged.
    """
    if not models:
        raise click.UsageError("no model is given: name at least one style-transfer model file")
    if size < MIN_SIZE:
        raise click.UsageError(
            f"--size {size}: expected {MIN_SIZE} pixels or more; strokes of smaller images have no direction "
            "that can be measured"
        )
    if out.is_file():
        raise click.UsageError(f"--out {out} is a file, but the results need a folder")
    inputs = StyleInputs(models, content, styles, loss_network, feature_weights, lpips_weights, size)
    check_device(device)
    place = chosen_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    entries = [_entry(name, load(path).to(place)) for name, path in models.items()]
    network = load_features(loss_network, path=feature_weights).to(place)
    lpips = None if lpips_weights is None else load_lpips(lpips_weights).to(place)
    content_names, style_names = style_pairs.ImageNames([content]), style_pairs.ImageNames(styles)
    if pairs is not None and pairs.exists():
        chosen = style_pairs.read_pairs(pairs)
    else:
        chosen = style_pairs.choose_pairs(content_names, style_names)
    drawn, from_files = _drawn_styles(chosen, size), _file_styles(chosen, style_names, size)
    chosen = replace(chosen, rotation_styles=tuple(style.name for style in from_files))
    turned = [*drawn, *from_files]
    directed = [style for style in turned if style.has_direction]
    undirected = [style for style in turned if not style.has_direction]
    contents = [_content(path, size, place) for path in content_names.find(chosen.contents)]
    turning = [_content(path, size, place) for path in content_names.find(chosen.rotation_contents)]
    style_files = dict(zip(chosen.styles, style_names.find(chosen.styles), strict=True))

    unchanged = Entry(Contestant(UNCHANGED, Unchanged(), _as_it_is, 0, 0), lambda a, b, weight: None)
    copied = Entry(Contestant(COPIED, Copied(), _as_it_is, 0, 0), torch.lerp)
    responses = [
        _responses(entry, turning, directed, undirected, lpips) for entry in (*entries, unchanged, copied)
    ]
    rows = _rows([*entries, unchanged], contents, list(style_files.values()), network, lpips, size)
    comparison = Comparison(
        rows=rows,
        responses=responses,
        differences=_differences(rows[:-1], responses),
        turned=turned,
        pairs=chosen,
        facts=inputs.facts(place),
    )

    # The figures first: they took the time.
    record = comparison.to_json()
    _write(out / "comparison.json", json.dumps(record) + "\n")
    for file in {out / "pairs.json", *([pairs] if pairs is not None and not pairs.exists() else [])}:
        _write(file, json.dumps(style_pairs.to_json(chosen), indent=1) + "\n")
    _write(out / "table.md", tables(comparison) + "\n")
    _write(out / "table.csv", comparison.to_csv())

    contestants = [entry.contestant for entry in entries]
    shown = {i: read_image(style_files[i]) for i in style_pairs.spread(chosen.styles, 6)}
    report = style_comparison_report(comparison)
    report.heading("Pictures")
    report.figure(
        style_pictures.pair_picture(contestants, contents[:: -(-len(contents) // 3)], shown),
        "Some of the pairs that were measured.",
    )
    for style in _most_directed(drawn) + _most_directed(from_files):
        caption = f"{style.name}, turned, and what each model makes of it."
        report.figure(style_pictures.rotation_picture(contestants, turning[0], [style]), caption)
        caption = f"{style.name} and its quarter turn, mixed."
        mixed = [(entry.contestant, entry.interpolate) for entry in entries]
        report.figure(style_pictures.interpolation_picture(mixed, turning[0], style), caption)
    report.write(out / "report.html")
    _write_pictures(contestants, _most_directed(drawn, 2), out, size, place)
    click.echo(f"wrote {out / 'report.html'}, comparison.json, table.md, table.csv, pairs.json", err=True)
    click.echo(json.dumps(record) if as_json else tables(comparison))


def _entry(name: str, model: StyleTransferModel) -> Entry:
    contestant = Contestant(
        name=name,
        model=model,
        prepare_style=lambda style: prepare_style(style, model.spec.style_image_size),
        trained_parameters=sum(p.numel() for p in model.trainable().values()),
        all_parameters=sum(p.numel() for p in model.parameters()),
    )
    return Entry(contestant, interpolate_params)


def _as_it_is(style: Tensor) -> Tensor:
    return style


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


def _rows(
    entries: Sequence[Entry],
    contents: Sequence[Tensor],
    styles: Sequence[Path],
    network: VGGFeatures,
    lpips: Lpips | None,
    size: int,
) -> list[StyleRow]:
    """The lines of the table; the last entry, which changes nothing, is not timed."""
    images = [
        prepare_style(to_tensor(read_image(path))[None], size).to(contents[0].device) for path in styles
    ]
    contestants = [entry.contestant for entry in entries]
    scores = []
    for contestant in contestants:
        with tqdm(total=len(contents) * len(images), desc=contestant.name, disable=None) as bar:
            score = partial(style_table.score_pairs, loss_network=network, lpips=lpips, done=bar.update)
            scores.append(score(contestant, contents, images))
    click.echo("measure the time of each model in turn", err=True)
    timed: dict[str, tuple[dict[int, float], float | None]] = {contestants[-1].name: ({}, None)}
    timed |= style_table.time_models(
        contestants[:-1], images[0], repeats=REPEATS, num_threads=torch.get_num_threads()
    )
    return [style_table.make_row(c, s, *timed[c.name]) for c, s in zip(contestants, scores, strict=True)]


def _differences(
    rows: Sequence[StyleRow], responses: Sequence[style_responses.ResponseRow]
) -> dict[str, dict[str, tuple[float, float]]]:
    """{"model - first model": {measure: (mean, standard error) pair by pair}}."""
    found = {}
    for row, response in list(zip(rows, responses, strict=False))[1:]:
        found[f"{row.model} - {rows[0].model}"] = {
            name: style_table.paired_difference(rows[0], row, name) for name in row.means
        } | {
            name: style_responses.response_difference(responses[0], response, name) for name in response.means
        }
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
