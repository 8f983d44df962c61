"""If this fails, built-in training data differs from before, or has empty corners or wrong angles."""

import math
import socket

import numpy as np
import pytest
import skimage.data
from scipy.ndimage import gaussian_filter

from style_transfer.pattern_drawing import Canvas, arcs, inset, ribbons, round_corners
from style_transfer.procedural_styles import PROCEDURAL_STYLES, builtin_contents, draw_style, draw_style_set

NAMES = list(PROCEDURAL_STYLES)

# Mean colour of each style at size 96, seed 0: a change of a style or another machine's drawing shows here.
MEANS = {
    "circles_and_squares": (152.8, 152.8, 152.8),
    "stripes": (120.0, 143.2, 132.6),
    "hatching": (182.6, 149.1, 148.3),
    "dots": (174.7, 177.1, 164.6),
    "brush_strokes": (195.7, 108.0, 97.9),
    "mosaic": (120.7, 77.0, 55.1),
}


def gradient_direction(image: np.ndarray) -> float:
    """Dominant direction of the grey gradient in degrees, 0 = along x, from the structure tensor."""
    # Derivatives of a Gaussian, because differences of pixels misjudge sharp edges by some degrees.
    grey = image.astype(float).mean(-1)
    dy, dx = (gaussian_filter(grey, 1.0, order=order)[6:-6, 6:-6] for order in ((1, 0), (0, 1)))
    return math.degrees(0.5 * math.atan2(2 * (dx * dy).mean(), (dx * dx - dy * dy).mean()))


def test_names():
    assert NAMES == ["circles_and_squares", "stripes", "hatching", "dots", "brush_strokes", "mosaic"]


@pytest.mark.parametrize("name", NAMES)
def test_equal_arguments_give_equal_images(name):
    image = draw_style(name, 96, seed=0)
    assert image.shape == (96, 96, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, draw_style(name, 96, seed=0))
    np.testing.assert_array_equal(image, PROCEDURAL_STYLES[name](96, 0))
    np.testing.assert_allclose(image.mean((0, 1)), MEANS[name], atol=1)
    for seed in (1, -1, 2**40):
        assert np.abs(image.astype(int) - draw_style(name, 96, seed=seed)).mean() > 10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [64, 65])
def test_quarter_turns_are_exact(name, size):
    upright = draw_style(name, size, seed=3)
    for quarters in (1, 2, 3, -1):
        np.testing.assert_array_equal(
            draw_style(name, size, seed=3, angle=90 * quarters), np.rot90(upright, quarters)
        )
    np.testing.assert_array_equal(draw_style(name, size, seed=3, angle=360), upright)


@pytest.mark.parametrize("name", NAMES)
def test_size_changes_the_detail_and_not_the_picture(name):
    small, large = draw_style(name, 128, seed=4, angle=25), draw_style(name, 256, seed=4, angle=25)
    reduced = large.reshape(128, 2, 128, 2, 3).mean((1, 3))
    other = draw_style(name, 128, seed=5, angle=25)
    assert np.abs(reduced - small).mean() < 0.15 * np.abs(reduced - other).mean()


@pytest.mark.parametrize("size", [2, 7, 64, 255])
def test_no_angle_shows_what_lies_outside_the_canvas(size):
    canvas = Canvas(size, (200, 100, 50))
    for angle in (0, 17, 45, 133, 225, 301.5, -45):
        assert (canvas.rotate(angle) == [200, 100, 50]).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("angle", [0, 45])
def test_the_pattern_reaches_every_corner(name, angle):
    for seed in range(3):
        image = draw_style(name, 128, seed=seed, angle=angle).astype(float)
        for y in (0, 96):
            for x in (0, 96):
                assert image[y : y + 32, x : x + 32].mean(-1).std() > 8


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 110, 160])
def test_lines_run_at_the_angle(angle):
    for name, tolerance in (("stripes", 0.1), ("hatching", 8)):
        for seed in range(3):
            # Upright lines have their gradient along x; y points down, so a turn to the left counts down.
            direction = gradient_direction(draw_style(name, 128, seed=seed, angle=angle))
            error = (direction + angle + 90) % 180 - 90
            assert abs(error) < tolerance, (name, seed)


def test_stripes_are_straight_and_have_edges():
    for seed in range(8):
        image = draw_style("stripes", 128, seed=seed)
        assert (image == image[:1]).all()
        edges = (np.abs(np.diff(image[0].astype(int), axis=0)).sum(1) > 30).sum()
        assert edges > 12


def test_circles_and_squares_are_black_and_white():
    grounds = set()
    for seed in range(8):
        image = draw_style("circles_and_squares", 256, seed=seed, angle=30)
        grey = image[..., 0]
        assert (image == grey[..., None]).all()
        dark, light = (grey < 40).mean(), (grey > 215).mean()
        assert dark > 0.25
        assert light > 0.25
        assert dark + light > 0.8
        grounds.add(bool(light > dark))
    assert grounds == {True, False}, "some seeds are white on black"


def test_seeds_bring_colour_variants():
    for name, count, fewest, most in (
        ("stripes", 20, 2, 12),
        ("dots", 20, 2, 12),
        ("brush_strokes", 6, 0, 0),
    ):
        drawn = [draw_style(name, 32, seed=i).astype(int) for i in range(count)]
        num_grey = sum((i.max(-1) - i.min(-1)).max() < 3 for i in drawn)
        assert fewest <= num_grey <= most
        assert len({tuple(i.mean((0, 1)) // 24) for i in drawn}) >= 3


def test_style_set_cycles_and_grows_at_the_end():
    drawn = draw_style_set(8, size=48, seed=5)
    assert [name for name, _ in drawn] == [*NAMES, *NAMES[:2]]
    for (name, image), (other_name, other) in zip(drawn, draw_style_set(3, size=48, seed=5), strict=False):
        assert name == other_name
        np.testing.assert_array_equal(image, other)
    assert len({image.tobytes() for _, image in drawn + draw_style_set(8, size=48, seed=6)}) == 16
    assert draw_style_set(0) == []
    # The second round is rotated: stripes are vertical at first, then at the golden angle.
    error = (gradient_direction(drawn[7][1]) + 137.508 + 90) % 180 - 90
    assert abs(error) < 2


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'plaid', expected one of circles_and_squares, stripes"):
        draw_style("plaid")
    with pytest.raises(ValueError, match="at least 1 pixel"):
        draw_style("dots", 0)


def test_contents_are_skimage_photos_without_network(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("network used")

    monkeypatch.setattr(socket, "socket", refuse)
    contents = builtin_contents()
    assert {name: image.shape for name, image in contents.items()} == {
        "astronaut": (512, 512, 3),
        "chelsea": (300, 451, 3),
        "coffee": (400, 600, 3),
        "rocket": (427, 640, 3),
    }
    for name in ("astronaut", "chelsea", "coffee"):
        np.testing.assert_array_equal(contents[name], getattr(skimage.data, name)())


def test_stroke_geometry():
    centers, angles = np.array([[0.1, -0.2]]), np.array([math.pi / 2])
    spine = arcs(centers, angles, np.array([0.4]), bends=np.array([0.0]), points=5)
    np.testing.assert_allclose(spine[0, :, 0], 0.1, atol=1e-12)
    np.testing.assert_allclose(spine[0, :, 1], [-0.4, -0.3, -0.2, -0.1, 0.0], atol=1e-12)
    outline = ribbons(spine, np.array([0.06]), taper=0.5)[0]
    widths = np.abs(outline[:5, 0] - outline[::-1][:5, 0])
    np.testing.assert_allclose(widths, [0.03, 0.05625, 0.06, 0.05625, 0.03])

    # A spine that turns by half a radian: its end directions differ by that (small-bend parabola).
    bent = arcs(centers, angles, np.array([0.4]), bends=np.array([0.5]), points=401)[0]
    first, last = bent[1] - bent[0], bent[-1] - bent[-2]
    turn = math.atan2(first[0] * last[1] - first[1] * last[0], first @ last)
    assert turn == pytest.approx(0.5, abs=0.015)
    np.testing.assert_allclose(bent.mean(0), centers[0], atol=1e-3)

    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    smaller = inset(square, 0.25)
    assert smaller is not None
    np.testing.assert_allclose(smaller, square * 0.75 + 0.25)
    assert inset(square, 0.6) is None
    rounded = round_corners(square)
    assert rounded.shape == (16, 2)
    assert rounded.min() >= 0
    assert rounded.max() <= 2
    np.testing.assert_allclose(rounded.mean(0), [1, 1])
