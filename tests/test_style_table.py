"""If this fails, the comparison table shows other figures than those measured, or compares what differs."""

import json
import math

import pytest
import torch

from ganmod.features import LAYERS
from ganmod.style_losses import content_loss, mean_std_loss, shifted_gram_loss
from metrics.style_table import (
    Contestant,
    PairScores,
    make_row,
    paired_difference,
    score_pairs,
    time_models,
    to_json,
    to_markdown,
)


class Features:
    """A loss network that is a handful of fixed linear maps of the image."""

    def normalized(self, x):
        return {layer: x[:, :, ::step, ::step] * step for step, layer in enumerate(LAYERS, start=1)}


class Blend:
    """result = (1 - share) * content + share * mean color of the style; counts its calls."""

    def __init__(self, share):
        self.share, self.calls = share, []

    def encode(self, x):
        self.calls.append("encode")
        return x

    def predict(self, style):
        self.calls.append(f"predict {list(style.shape[2:])}")
        return style.mean(dim=(2, 3), keepdim=True)

    def decode(self, features, params):
        self.calls.append("decode")
        return (1 - self.share) * features + self.share * params


def lpips(a, b):
    return (a - b).abs().mean(dim=(1, 2, 3))


def blend(share, name="blend"):
    return Contestant(name, Blend(share), lambda style: style[:, :, :16, :16], 10, 1_500_000)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    contents = [torch.rand(1, 3, 16, w, generator=generator) for w in (16, 24)]
    return contents, [torch.rand(1, 3, 32, 32, generator=generator) for _ in range(3)]


def run(entry, images):
    return score_pairs(entry, *images, loss_network=Features(), lpips=lpips)


def scored(contents, styles, value):
    return [
        PairScores(c, s, value(c, s), 2 * value(c, s), 4 * value(c, s), 0.5)
        for s in range(styles)
        for c in range(contents)
    ]


def test_scores_are_the_losses_of_the_clamped_result(images):
    entry, network = blend(2.5), Features()
    scores = run(entry, images)
    assert [(s.content, s.style) for s in scores] == [(c, s) for s in range(3) for c in range(2)]
    content, style = images[0][1], images[1][2]
    raw = -1.5 * content + 2.5 * style[:, :, :16, :16].mean(dim=(2, 3), keepdim=True)
    assert raw.min() < 0
    result = network.normalized(raw.clamp(0, 1))
    last = scores[-1]
    assert last.content_loss == pytest.approx(float(content_loss(result, network.normalized(content))))
    assert last.style_loss == pytest.approx(float(mean_std_loss(result, network.normalized(style))))
    assert last.shifted_gram == pytest.approx(float(shifted_gram_loss(result, network.normalized(style))))
    assert last.lpips == pytest.approx(float((raw.clamp(0, 1) - content).abs().mean()))


def test_the_unchanged_content_has_no_content_loss_and_no_distance(images):
    for score in run(blend(0.0), images):
        assert (score.content_loss, score.lpips) == (0, 0)
        assert score.style_loss > 0


def test_each_style_is_predicted_once_and_each_content_encoded_once(images):
    entry, done = blend(0.5), []
    network = Features()
    score_pairs(entry, *images, loss_network=network, lpips=lpips, done=lambda: done.append(1))
    assert entry.model.calls.count("encode") == 2
    assert entry.model.calls.count("predict [16, 16]") == 3  # what prepare_style made of 32 x 32
    assert entry.model.calls.count("decode") == len(done) == 6


def test_a_score_that_is_not_finite_is_an_error_that_names_the_pair(images):
    images[1][1][:] = math.nan
    with pytest.raises(ValueError, match="blend: content 0 with style 1"):
        run(blend(0.5), images)


def test_times_are_positive_and_grow_with_the_image_and_threads_are_restored(images):
    class Slow(Blend):
        def decode(self, features, params):
            for _ in range(features.shape[2] // 8):
                features = features.sin()
            return features

    before = torch.get_num_threads()
    entries = [Contestant(n, Slow(0.5), lambda s: s, 0, 0) for n in ("a", "b")]
    timed = time_models(entries, images[1][0], sizes=(16, 256), repeats=3)
    assert list(timed) == ["a", "b"]
    for seconds, style_seconds in timed.values():
        assert 0 < seconds[16] < seconds[256] < 10
        assert 0 < style_seconds < 10
    assert torch.get_num_threads() == before


def test_row_holds_means_and_errors_over_contents_and_styles():
    row = make_row(blend(0.5), scored(2, 3, lambda c, s: 1.0 + c + 10 * s), {256: 0.25}, 0.125)
    assert row.num_pairs == 6
    assert row.content_loss == pytest.approx(1.0 + 0.5 + 10)
    assert row.style_loss == pytest.approx(2 * row.content_loss)
    # Contents: means 11, 12, variance 0.5; styles: means 1.5, 11.5, 21.5, variance 100.
    assert row.content_loss_se == pytest.approx(math.sqrt(0.5 / 2 + 100 / 3))
    assert (row.lpips, row.lpips_se) == (0.5, 0)
    with pytest.raises(ValueError, match="no pair"):
        make_row(blend(0.5), [], {}, 0.0)


def test_paired_difference_is_free_of_what_the_images_share():
    first = make_row(blend(0, "first"), scored(2, 3, lambda c, s: 10.0 * s), {}, 0)
    second = make_row(blend(0, "second"), scored(2, 3, lambda c, s: 10.0 * s - 0.25), {}, 0)
    assert paired_difference(first, second, "content_loss") == pytest.approx((-0.25, 0))
    assert paired_difference(first, second, "style_loss") == pytest.approx((-0.5, 0))
    other = make_row(blend(0, "other"), scored(2, 2, lambda c, s: 1.0), {}, 0)
    with pytest.raises(ValueError, match="first and other"):
        paired_difference(first, other, "lpips")


def test_markdown_and_json_show_the_values():
    row = make_row(blend(0, "a|b"), scored(1, 2, lambda c, s: 0.25), {256: 0.5, 512: 2.0}, 0.0625)
    lines = to_markdown([row]).splitlines()
    assert "s/image 256 px | s/image 512 px | s/style" in lines[0]
    assert lines[0].count("|") == lines[1].count("|") == 11
    assert lines[2] == (
        "| a\\|b | 0.250 (0.000) | 0.500 (0.000) | 1.000 (0.000) | 0.500 (0.000) "
        "| 0.500 | 2.000 | 0.062 | 0.00 M | 1.50 M |"
    )
    plain = json.loads(json.dumps(to_json([row])))[0]
    assert plain["seconds"] == {"256": 0.5, "512": 2.0}
    assert plain["pairs"] == [[0, 0, 0.25, 0.5, 1.0, 0.5], [0, 1, 0.25, 0.5, 1.0, 0.5]]
    assert plain["all_parameters"] == 1_500_000
