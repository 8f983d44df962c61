"""If this fails, the gap to optimised pixels is another number than it says, or optima get lost."""

import json
import math

import pytest
import torch
from torch import nn

from ganmod.features.vgg import VGGFeatures
from ganmod.modulation.statistics import mean_std
from metrics.style.amortisation import (
    Optima,
    PairLosses,
    amortisation_gap,
    gap_images,
    measure_losses,
    measure_optima,
    network_digest,
    read_optima,
)

SETTINGS = {"algorithm": "lbfgs", "steps": 400}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    found = VGGFeatures((3, 4, 5, 6))
    for conv in found.convs.values():
        nn.init.kaiming_normal_(conv.weight)
    found.calibrate(torch.rand(1, 3, 32, 32))
    return found.double().requires_grad_(False).eval()


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(1)

    def image(height, width):
        return torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)

    return {"a.png": image(16, 24), "b.png": image(24, 16)}, {"x": image(16, 16), "y": image(32, 32)}


def blend(images, share):
    """(content, style) -> the content moved towards the style's mean colour."""
    contents, styles = images
    return lambda c, s: (1 - share) * contents[c] + share * styles[s].mean(dim=(2, 3), keepdim=True)


def measure(images, network, file=None, share=0.5, **changes):
    options = {"optimise": blend(images, share), "size": 16, "settings": SETTINGS, "file": file}
    return measure_optima(*images, network, **options | changes)


def pair_loss(image, content, style, network):
    """content + 3 * style loss, from the features alone."""
    found, target, wanted = (
        {name: value / network.rms[i] for i, (name, value) in enumerate(network(x).items())}
        for x in (image, content, style)
    )
    total = (found["relu4_1"] - target["relu4_1"]).square().mean()
    for name, value in found.items():
        for a, b in zip(mean_std(value), mean_std(wanted[name]), strict=True):
            total = total + 3 * (a - b).square().mean()
    return float(total)


def test_gap_is_the_mean_ratio_of_the_losses_computed_by_hand(images, network):
    contents, styles = images
    optima = measure(images, network)
    result = blend(images, 0.25)
    losses, ratios = {}, {}
    for c in contents:
        for s in styles:
            losses[c, s] = measure_losses(result(c, s), contents[c], styles[s], network)
            pair = (contents[c], styles[s], network)
            ratios[c, s] = pair_loss(result(c, s), *pair) / pair_loss(blend(images, 0.5)(c, s), *pair)
    gap, error = amortisation_gap(losses, optima)
    assert gap == pytest.approx(sum(ratios.values()) / 4, rel=1e-12)
    # Two contents and two styles: the variance of the mean of two is half their difference, squared.
    by_content = [(ratios[c, "x"] + ratios[c, "y"]) / 2 for c in contents]
    by_style = [(ratios["a.png", s] + ratios["b.png", s]) / 2 for s in styles]
    spread = [(pair[0] - pair[1]) / 2 for pair in (by_content, by_style)]
    assert error == pytest.approx(math.hypot(*spread), rel=1e-9)


def test_gap_of_the_optimum_itself_is_1_and_of_twice_its_loss_2(images, network):
    optima = measure(images, network)
    assert amortisation_gap(optima.losses, optima) == (1, 0)
    double = {pair: PairLosses(2 * c, 2 * s) for pair, (c, s) in optima.losses.items()}
    assert amortisation_gap(double | {("other", "pair"): PairLosses(9, 9)}, optima) == (2, 0)


def test_results_are_clamped_before_they_are_measured(images, network):
    content, style = images[0]["a.png"], images[1]["x"]
    beyond = 3 * content - 1
    assert measure_losses(beyond, content, style, network) == measure_losses(
        beyond.clamp(0, 1), content, style, network
    )
    assert measure_losses(content, content, style, network).content == 0
    assert PairLosses(0.5, 0.25).total == 1.25


def test_a_missing_pair_is_named(images, network):
    optima = measure(images, network)
    fewer = {pair: losses for pair, losses in optima.losses.items() if pair != ("b.png", "y")}
    with pytest.raises(ValueError, match=r"1 of the 4 pairs.*b\.png"):
        amortisation_gap(fewer, optima)
    with pytest.raises(ValueError, match="one at least"):
        amortisation_gap({}, Optima("", 16, {}, {}))


def test_what_a_file_holds_is_not_optimised_again(images, network, tmp_path):
    file, calls = tmp_path / "folder" / "optima.json", []

    def optimise(content, style):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append((content, style))
        return blend(images, 0.5)(content, style)

    with pytest.raises(KeyboardInterrupt):
        measure(images, network, file, optimise=optimise)
    assert len(read_optima(file).losses) == 3
    rest = []
    optima = measure(
        images, network, file, optimise=lambda c, s: rest.append((c, s)) or blend(images, 0.5)(c, s)
    )
    assert rest == [("b.png", "y")]
    assert optima == measure(images, network)
    assert read_optima(file) == optima  # to the last digit

    def fail(content, style):
        raise AssertionError

    few = ({"b.png": images[0]["b.png"]}, {"y": images[1]["y"]})
    again = measure_optima(*few, network, optimise=fail, size=16, settings=SETTINGS, file=file)
    assert again.losses == {("b.png", "y"): optima.losses["b.png", "y"]}
    assert len(read_optima(file).losses) == 4

    record = json.loads(file.read_text())
    assert (record["network_sha256"], record["size"], record["settings"]) == (
        network_digest(network),
        16,
        SETTINGS,
    )


def test_optima_of_another_network_size_or_settings_are_refused(images, network, tmp_path):
    file = tmp_path / "optima.json"
    measure(images, network, file)
    text = file.read_text()
    torch.manual_seed(5)
    other = VGGFeatures((3, 4, 5, 6)).double()
    with pytest.raises(ValueError, match=r"optima\.json holds optima of another network"):
        measure(images, other, file)
    with pytest.raises(ValueError, match="another size: 16, expected 32"):
        measure(images, network, file, size=32)
    with pytest.raises(ValueError, match="another settings"):
        measure(images, network, file, settings={"steps": 1})
    assert file.read_text() == text
    for wrong in (
        "[]",
        "no JSON",
        "[" * 100_000,
        text.replace("ganmod optima 1", "else"),
        text.replace('"x"', '"x", 3'),
    ):
        file.write_text(wrong)
        with pytest.raises(ValueError, match=r"optima\.json does not hold the losses of optima"):
            measure(images, network, file)


def test_digest_is_of_the_weights_alone(network):
    torch.manual_seed(0)
    same = VGGFeatures((3, 4, 5, 6))
    same.load_state_dict(network.state_dict())
    single = network_digest(same)
    same.rms.mul_(1 + 1e-6)  # as another machine may round it
    assert network_digest(same) == single
    same.convs["4_1"].bias.data[0] += 1e-3
    assert network_digest(same) != single


def test_gaps_are_measured_on_every_fourth_of_twenty_and_on_all_of_those_five_again():
    five = gap_images(list("abcdefghijklmnopqrst"))
    assert five == list("aeimq") == gap_images(five)
    assert gap_images(list("abcdefghijkl")) == list("acegi")
    assert gap_images(["a"]) == ["a"]
