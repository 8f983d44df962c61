"""If this fails, a network's lattice is not detected, or lines of a style are mistaken for one."""

from __future__ import annotations

import numpy as np
import pytest

from ganmod.io.images import center_crop, resize_short_side
from metrics.images.lattice import WINDOW, Lattice, line_share, measure_lattice, window_spectrum
from metrics.images.structure import luma
from style_transfer.procedural_styles import builtin_contents

SIZE, PAIRS = 160, 6
EVERYWHERE = np.ones((SIZE, SIZE), dtype=bool)


def noise(seed: int) -> np.ndarray:
    return 0.5 + 0.05 * np.random.default_rng(seed).standard_normal((SIZE, SIZE))


def lines(period: float, degrees: float, amplitude: float) -> np.ndarray:
    """A grating; `degrees` is the direction across its lines, from the columns' axis."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    angle = np.radians(degrees)
    return amplitude * np.cos(2 * np.pi / period * (columns * np.cos(angle) + rows * np.sin(angle)))


def measure(results: list[np.ndarray], styles: list[np.ndarray]) -> Lattice:
    return measure_lattice(results, styles, [EVERYWHERE] * len(results))


def test_a_spectrum_has_the_energy_of_its_windows():
    """Parseval, for a grating of whole periods: its peak holds (amplitude * sum of the taper / 2)^2."""
    spectrum = window_spectrum(lines(8, 0, 0.1))
    hann = np.hanning(WINDOW + 1)[:-1]
    assert np.unravel_index(spectrum.argmax(), spectrum.shape) == (0, WINDOW // 8)
    assert spectrum.max() == pytest.approx((0.1 * hann.sum() ** 2 / 2) ** 2, rel=1e-6)


@pytest.mark.parametrize(("period", "degrees"), [(4, 0), (4, 90), (2.8284, 45), (8, 0), (2, 0)])
def test_lines_of_the_network_are_found_with_their_period(period: float, degrees: float):
    results = [noise(i) + lines(period, degrees, 0.05) for i in range(PAIRS)]
    found = measure(results, [noise(100 + i) for i in range(PAIRS)])
    clean = measure([noise(i) for i in range(PAIRS)], [noise(100 + i) for i in range(PAIRS)])
    assert found.share > 3 * clean.share
    assert 1 / np.hypot(*found.peak) == pytest.approx(period, rel=0.1)
    assert abs(np.degrees(np.arctan2(*np.abs(found.peak))) - degrees) < 8


def test_stronger_lines_measure_more():
    styles = [noise(50 + i) for i in range(PAIRS)]
    shares = [
        measure([noise(i) + lines(4, 0, amplitude) for i in range(PAIRS)], styles).share
        for amplitude in (0.0, 0.02, 0.05, 0.2)
    ]
    assert shares == sorted(shares)
    assert shares[-1] > 0.5


def test_lines_that_the_styles_have_are_no_lattice():
    gratings = [lines(4, 0, 0.05)] * PAIRS
    results = [noise(i) + gratings[i] for i in range(PAIRS)]
    with_lines = measure(results, [noise(100 + i) + gratings[i] for i in range(PAIRS)])
    without = measure(results, [noise(100 + i) for i in range(PAIRS)])
    assert with_lines.share < 0.3 * without.share


def test_contrast_and_brightness_do_not_count():
    results = [noise(i) + lines(4, 0, 0.03) for i in range(PAIRS)]
    styles = [noise(100 + i) for i in range(PAIRS)]
    scaled = measure([0.3 + 0.5 * x for x in results], styles)
    assert scaled.share == pytest.approx(measure(results, styles).share, rel=1e-9)


def test_only_smooth_regions_count():
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[:, : SIZE // 2] = True
    striped = [noise(i) + np.where(mask, 0, lines(4, 0, 0.1)) for i in range(PAIRS)]
    styles = [noise(100 + i) for i in range(PAIRS)]
    inside = measure_lattice(striped, styles, [mask] * PAIRS).share
    assert inside < 0.3 * measure(striped, styles).share


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match=r"the image is \[20, 160\], expected sides of at least 32"):
        window_spectrum(np.zeros((20, 160)))
    with pytest.raises(ValueError, match="got 1 results, 0 styles, 1 masks"):
        measure_lattice([noise(0)], [], [EVERYWHERE])
    with pytest.raises(ValueError, match=r"the image is \[20, 160\], expected sides of at least 32"):
        line_share(np.zeros((20, 160)))


def photos() -> list[np.ndarray]:
    """The built-in photos and their middles, as luma [32,32] in [0,1]."""
    squares = [center_crop(x, side) for x in builtin_contents().values() for side in (128, min(x.shape[:2]))]
    return [luma(resize_short_side(square, WINDOW)) for square in squares]


def plaid(period: float, degrees: float, amplitude: float) -> np.ndarray:
    both = lines(period, degrees, amplitude) + lines(period, degrees + 90, amplitude)
    return both[:WINDOW, :WINDOW]


def mean_share(images: list[np.ndarray]) -> float:
    return float(np.mean([line_share(x) for x in images]))


def test_a_photo_has_no_isolated_lines_and_a_grating_nothing_else():
    assert mean_share(photos()) < 0.01
    assert mean_share([noise(i)[:WINDOW, :WINDOW] for i in range(50)]) < 0.01
    assert line_share(lines(4, 0, 0.1)) == pytest.approx(1, abs=1e-6)
    assert line_share(np.full((40, 50), 0.3)) < 1e-12


@pytest.mark.parametrize(
    ("period", "degrees"), [(8, 0), (8, 30), (9, 10), (5, 45), (4, 0), (3, 60), (2.5, 20)]
)
def test_a_plaid_over_a_photo_is_found_and_counts_more_the_stronger_it_is(period: float, degrees: float):
    shares = [
        mean_share([photo + plaid(period, degrees, amplitude) for photo in photos()])
        for amplitude in (0.0, 0.05, 0.1, 0.2, 0.5)
    ]
    assert shares == sorted(shares)
    assert shares[2] > 4 * shares[0]
    assert shares[-1] > 0.4


def test_edges_and_shapes_are_no_lattice():
    rows, columns = np.mgrid[:WINDOW, :WINDOW]
    half, disc = columns > rows / 3 + 8, np.hypot(rows - 14, columns - 17) < 7
    square = (abs(rows - 14) < 6) & (abs(columns - 15) < 9)
    for shape in (half, disc, square):
        assert line_share(0.3 + 0.4 * shape) < 0.03


def test_lines_are_a_share_of_the_contrast():
    photo = photos()[0] + plaid(8, 0, 0.1)
    assert line_share(0.3 + 0.5 * photo) == pytest.approx(line_share(photo), rel=1e-9)
