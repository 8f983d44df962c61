"""If this fails, the comparison table shows other figures than those measured, or compares what differs."""

import json
import math
import time

import pytest
import torch

from ganmod.features.style_losses import content_loss, gram_loss, mean_std_loss, shifted_gram_loss
from ganmod.features.vgg import LAYERS
from metrics.images.patch_swd import patch_swd
from metrics.images.similarity import ssim
from metrics.style.pair_scores import MEASURES, Contestant, PairScores, score_pairs, to_array
from metrics.style.table import (
    loss_table,
    make_row,
    paired_difference,
    row_values,
    rows_to_json,
    standard_error,
    time_models,
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
    return Contestant(name, Blend(share), lambda style: style[:, :, :32, :32], 10, 1_500_000)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    contents = [torch.rand(1, 3, 32, w, generator=generator) for w in (32, 40)]
    return contents, [torch.rand(1, 3, 48, 48, generator=generator) for _ in range(3)]


def run(entry, images):
    return score_pairs(entry, *images, loss_network=Features(), lpips=lpips)


def make_scores(contents, styles, value):
    return [
        PairScores(c, s, {"content_loss": value(c, s), "style_loss": 2 * value(c, s), "ssim": 0.5})
        for s in range(styles)
        for c in range(contents)
    ]


def test_scores_are_the_losses_of_the_clamped_result(images):
    entry, network = blend(2.5), Features()
    scores = run(entry, images)
    assert [(s.content, s.style) for s in scores] == [(c, s) for s in range(3) for c in range(2)]
    content, style = images[0][1], images[1][2]
    raw = -1.5 * content + 2.5 * style[:, :, :32, :32].mean(dim=(2, 3), keepdim=True)
    assert raw.min() < 0
    image = raw.clamp(0, 1)
    result, target = network.normalized(image), network.normalized(style)
    assert scores[-1].values == pytest.approx(
        {
            "content_loss": float(content_loss(result, network.normalized(content))),
            "style_loss": float(mean_std_loss(result, target)),
            "gram_loss": float(gram_loss(result, target)),
            "shifted_gram": float(shifted_gram_loss(result, target)),
            "lpips": float((image - content).abs().mean()),
            "ssim": ssim(to_array(content), to_array(image)),
            "patch_swd": patch_swd(to_array(image), to_array(style)),
        }
    )


def test_lpips_is_left_out_where_it_cannot_be_measured(images):
    scores = score_pairs(blend(0.5), *images, loss_network=Features(), lpips=None)
    assert list(scores[0].values) == [name for name in MEASURES if name != "lpips"]
    columns = loss_table([make_row(blend(0.5), scores, {}, None)]).columns
    assert not [column for column in columns if "LPIPS" in column]


def test_the_unchanged_content_has_no_content_loss_and_no_distance(images):
    for score in run(blend(0.0), images):
        assert (score.values["content_loss"], score.values["lpips"]) == (0, 0)
        assert score.values["ssim"] == pytest.approx(1)
        assert score.values["style_loss"] > 0


def test_each_style_is_predicted_once_and_each_content_encoded_once(images):
    entry, done = blend(0.5), []
    network = Features()
    score_pairs(entry, *images, loss_network=network, lpips=lpips, done=lambda: done.append(1))
    assert entry.model.calls.count("encode") == 2
    assert entry.model.calls.count("predict [32, 32]") == 3  # what prepare_style made of 48 x 48
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
    row = make_row(blend(0.5), make_scores(2, 3, lambda c, s: 1.0 + c + 10 * s), {256: 0.25}, 0.125)
    assert row.num_pairs == 6
    assert row.means["content_loss"] == pytest.approx(1.0 + 0.5 + 10)
    assert row.means["style_loss"] == pytest.approx(2 * row.means["content_loss"])
    # Contents: means 11, 12, variance 0.5; styles: means 1.5, 11.5, 21.5, variance 100.
    assert row.errors["content_loss"] == pytest.approx(math.sqrt(0.5 / 2 + 100 / 3))
    assert (row.means["ssim"], row.errors["ssim"]) == (0.5, 0)
    assert standard_error([(0, 0, 1.0)]) == 0  # one content and one style say nothing of the spread
    with pytest.raises(ValueError, match="no pair"):
        make_row(blend(0.5), [], {}, 0.0)


def test_paired_difference_is_free_of_what_the_images_share():
    first = make_row(blend(0, "first"), make_scores(2, 3, lambda c, s: 10.0 * s), {}, 0)
    second = make_row(blend(0, "second"), make_scores(2, 3, lambda c, s: 10.0 * s - 0.25), {}, 0)
    assert paired_difference(first, second, "content_loss") == pytest.approx((-0.25, 0))
    assert paired_difference(first, second, "style_loss") == pytest.approx((-0.5, 0))
    other = make_row(blend(0, "other"), make_scores(2, 2, lambda c, s: 1.0), {}, 0)
    with pytest.raises(ValueError, match="first and other"):
        paired_difference(first, other, "ssim")


def test_times_of_one_thread_are_the_processors_own(images):
    class Waits(Blend):
        def decode(self, features, params):
            time.sleep(0.05)
            return features

    entries = [Contestant("waits", Waits(0.5), lambda s: s, 0, 0)]
    ((seconds, _),) = time_models(entries, images[1][0], sizes=(16,), repeats=1).values()
    assert seconds[16] < 0.02
    ((seconds, _),) = time_models(entries, images[1][0], sizes=(16,), repeats=1, num_threads=2).values()
    assert seconds[16] >= 0.05  # by the clock on the wall


def test_markdown_and_json_show_the_values():
    row = make_row(blend(0, "a|b"), make_scores(1, 2, lambda c, s: 0.25), {256: 0.5, 512: 2.0}, 0.0625)
    untimed = make_row(blend(0, "c"), make_scores(1, 2, lambda c, s: 0.25), {}, None)
    table = loss_table([row, untimed])
    columns = table.columns
    assert columns[:4] == ["model", "content loss", "style loss", "SSIM to content"]
    assert columns[4:] == ["s/image 256 px", "s/image 512 px", "s/style", "trained params", "with encoder"]
    lines = table.to_markdown().splitlines()
    assert lines[0].count("|") == lines[1].count("|") == 10
    assert lines[2] == (
        "| a\\|b | 0.250 (0.000) | 0.500 (0.000) | 0.500 (0.000) | 0.500 | 2.000 | 0.062 | 0.00 M | 1.50 M |"
    )
    assert lines[3].startswith("| c | 0.250 (0.000) | 0.500 (0.000) | 0.500 (0.000) |  |  |  | 0.00 M")

    plainly = json.loads(json.dumps(rows_to_json([row])))[0]
    assert (plainly["seconds_256"], plainly["seconds_512"]) == (0.5, 2.0)
    assert plainly["pair_values"] == ["content_loss", "style_loss", "ssim"]
    assert plainly["pairs"] == [[0, 0, 0.25, 0.5, 0.5], [0, 1, 0.25, 0.5, 0.5]]
    assert plainly["all_parameters"] == 1_500_000

    assert (row_values(row)["content_loss"], row_values(row)["content_loss_se"]) == (0.25, 0)
    assert "seconds_512" not in row_values(untimed)
