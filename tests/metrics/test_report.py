"""If this fails, a report is broken by a file name, reaches for the network, or draws curves elsewhere."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from metrics.html_report import (
    MAX_POINTS,
    PLOT_HEIGHT,
    PLOT_LEFT,
    PLOT_TOP,
    PLOT_WIDTH,
    Report,
    log_ticks,
    nice_ticks,
)
from metrics.table import Table

NASTY = """<script>alert("1")</script> & 'x' </title>"""


class Page(HTMLParser):
    """Start tags with their attributes, and the text between tags; complains about tags left open."""

    VOID = {"meta", "img", "line", "polyline"}

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def find(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def curve_points(page):
    return [
        [tuple(map(float, pair.split(","))) for pair in attrs["points"].split()]
        for attrs in page.find("polyline")
    ]


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_every_text_is_escaped(noise):
    report = Report(NASTY)
    report.heading(NASTY)
    report.paragraph(NASTY)
    report.code(NASTY)
    report.figure(noise, NASTY)
    report.table(Table([NASTY], [[NASTY]]), NASTY)
    report.curves({NASTY: ([0, 1], [0, 1])}, NASTY, NASTY, NASTY)
    page = Page(report.html())
    assert page.find("script") == []
    # title, h1, h2, p, pre; figure: caption; table: 2 cells, caption; chart: title, 2 labels, legend, caption
    assert sum(text == NASTY for text in page.text) == 14
    assert page.find("img")[0]["alt"] == NASTY


def test_page_needs_no_network_and_no_script(noise):
    report = Report("A report")
    report.figure(noise)
    report.table(Table(["a"], [[1]]))
    report.curves({"a": ([0, 1], [0, 1])}, "x", "y")
    html = report.html()
    text = re.sub(r"base64,[^\"]*", "", html)
    assert [word for word in ("http", "//", "url(", "@import") if word in text] == []
    tags = {tag for tag, _ in Page(html).tags}
    assert tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base"})
    assert all(attrs["src"].startswith("data:image/") for attrs in Page(html).find("img"))


def test_images_come_back_exactly_or_nearly(noise):
    report = Report("images")
    report.figure(noise, lossless=True)
    smooth = np.linspace(0, 255, 64).astype(np.uint8)
    report.figure(np.stack(np.broadcast_arrays(smooth[:, None], smooth[None], 128), -1).astype(np.uint8))
    report.figure(np.full((40, 40, 3), 9, np.uint8))
    kinds, decoded = [], []
    for attrs in Page(report.html()).find("img"):
        head, data = attrs["src"].split(",")
        kinds.append(head)
        decoded.append(np.array(Image.open(BytesIO(base64.b64decode(data)))))
        assert (int(attrs["height"]), int(attrs["width"])) == decoded[-1].shape[:2]
    np.testing.assert_array_equal(decoded[0], noise)
    assert kinds[0] == kinds[2] == "data:image/png;base64"  # one colour: a PNG is smaller
    assert np.abs(decoded[1][..., 0].astype(int) - smooth[:, None]).mean() < 4
    with pytest.raises(ValueError, match="float64"):
        report.figure(noise / 255)


def test_curve_points_lie_where_their_values_are():
    report = Report("curves")
    report.curves({"a": ([0, 5, 10], [0.0, 1.0, 0.25]), "b": ([10], [0.5])}, "kimg", "loss")
    first, lone = curve_points(Page(report.html()))
    bottom = PLOT_TOP + PLOT_HEIGHT
    assert first == [
        (PLOT_LEFT, bottom),
        (PLOT_LEFT + PLOT_WIDTH / 2, PLOT_TOP),
        (PLOT_LEFT + PLOT_WIDTH, bottom - PLOT_HEIGHT / 4),
    ]
    assert lone == [(PLOT_LEFT + PLOT_WIDTH, bottom - PLOT_HEIGHT / 2)] * 2
    assert {"kimg", "loss", "a", "b", "10", "0.4"} <= set(Page(report.html()).text)


def test_log_axis_puts_equal_factors_at_equal_distances():
    report = Report("curves")
    report.curves({"a": ([0, 1, 2, 3], [0.01, 1, 100, 0])}, "x", "y", log_y=True)
    (points,) = curve_points(Page(report.html()))  # the 0 cannot be shown
    assert [y for _, y in points] == [PLOT_TOP + PLOT_HEIGHT, PLOT_TOP + PLOT_HEIGHT / 2, PLOT_TOP]


def test_values_that_are_not_finite_leave_gaps():
    report = Report("curves")
    report.curves({"a": ([0, 1, 2, 3, 4], [1, 2, float("nan"), 3, float("inf")])}, "x", "y")
    assert [len(points) for points in curve_points(Page(report.html()))] == [2, 2]
    with pytest.raises(ValueError, match="no value of"):
        report.curves({"a": ([0], [float("nan")])}, "x", "y")
    with pytest.raises(ValueError, match="'a' has 2 xs and 1 ys"):
        report.curves({"a": ([0, 1], [1])}, "x", "y")


def test_long_curves_are_thinned_but_keep_their_spikes():
    ys = np.zeros(100_000)
    ys[54_321] = 1
    report = Report("curves")
    report.curves({"a": (range(100_000), ys)}, "x", "y")
    (points,) = curve_points(Page(report.html()))
    assert len(points) <= MAX_POINTS + 2
    assert min(y for _, y in points) == PLOT_TOP
    assert points == sorted(points, key=lambda point: point[0])


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 98, [-20, 0, 20, 40, 60, 80, 100]),
        (5, 5, [2, 3, 4, 5, 6, 7, 8]),
        (0, 0, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_linear_ticks_are_round_and_enclose_the_values(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.01, 100, [0.01, 0.1, 1, 10, 100]),
        (3, 40, [2, 5, 10, 20, 50]),
        (1, 1, [1, 2]),
        (1e-9, 1e9, None),
    ],
)
def test_log_ticks_enclose_the_values(low, high, ticks):
    got = log_ticks(low, high)
    assert ticks is None or got == pytest.approx(ticks)
    assert got[0] <= low <= high <= got[-1]
    assert 2 <= len(got) <= 10


def test_writing_makes_the_folder_and_survives_odd_names(tmp_path):
    report = Report("caf\u00e9 \udcff")
    report.write(tmp_path / "new" / "report.html")
    text = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert "<title>caf\u00e9 ?</title>" in text
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]
