"""If this fails, Frechet distances differ from clean-fid's, are as slow, or features are kept in memory."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cleanfid import fid as cleanfid

import metrics

# clean-fid's distance needs an argument that SciPy 1.18 no longer has.
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cleanfid.frechet_distance(np.zeros(2), np.eye(2), np.zeros(2), np.eye(2))
    BROKEN = ""
except TypeError as error:
    BROKEN = f"clean-fid's distance does not run with this SciPy ({error})"
needs_cleanfid = pytest.mark.skipif(bool(BROKEN), reason=BROKEN or "it runs")


def statistics(dim: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of features as a ReLU network's: skewed, correlated, of falling variance."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim)) / np.sqrt(np.arange(1, dim + 1))
    x = np.maximum(rng.normal(size=(count, dim)) @ mixing.T * 0.1 + 0.05, 0)
    return x.mean(0), np.cov(x, rowvar=False)


def time_call(function: Callable[..., float], *moments: np.ndarray) -> tuple[float, float]:
    start = time.process_time()  # wall time depends on the load of the machine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy announces that it drops the argument
        value = function(*moments)
    return float(value), time.process_time() - start


@needs_cleanfid
@pytest.mark.parametrize("count", [1000, 90, 20], ids=["full-rank", "just-singular", "rank-19"])
def test_equal_to_clean_fids_matrix_square_root(count: int):
    first, second = statistics(96, count, 0), statistics(96, 700, 1)
    for pair in (first + second, second + first, first + statistics(96, count, 2)):
        theirs, _ = time_call(cleanfid.frechet_distance, *pair)
        ours, _ = time_call(metrics.frechet_distance, *pair)
        assert ours == pytest.approx(theirs, rel=1e-6)
        assert ours > 0.1


@needs_cleanfid
@pytest.mark.slow
@pytest.mark.parametrize("count", [5000, 1000], ids=["full-rank", "rank-999"])
def test_at_2048_dimensions_equal_and_at_least_five_times_as_fast(count: int):
    pair = statistics(2048, count, 0) + statistics(2048, count, 1)
    ours, our_seconds = time_call(metrics.frechet_distance, *pair)
    theirs, their_seconds = time_call(cleanfid.frechet_distance, *pair)
    print(f"{count} images: {ours} in {our_seconds:.2f} s, clean-fid {theirs} in {their_seconds:.2f} s")
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert their_seconds > 5 * our_seconds


# From the kernel's counters: getrusage's peak would include that of the parent process.
STREAM = """
import re, torch
from metrics import FeatureStats

def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])

before = kilobytes("VmRSS")
stats = FeatureStats(2048)
for part in range({batches}):
    stats.update(torch.rand(500, 2048))
stats.finish()
print((kilobytes("VmHWM") - before) * 1024)
"""


def growth(batches: int) -> int:
    """Growth in bytes of a fresh process that streams a number of batches of 500 x 2048 features."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", STREAM.format(batches=batches)]
    return int(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_fifty_thousand_features_stream_in_less_than_a_gibibyte():
    grown = growth(100)
    print(f"grew by {grown / 2**20:.0f} MiB")
    assert 2048 * 2048 * 8 < grown < 2**30  # the scatter matrix is in it
