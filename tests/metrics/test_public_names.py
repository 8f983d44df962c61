"""If this fails, a name of `metrics` is another function than the one of that name in its module."""

from __future__ import annotations

import importlib

import pytest

import metrics
import metrics.compare


@pytest.mark.parametrize("package", [metrics, metrics.compare], ids=lambda package: package.__name__)
def test_every_public_name_is_the_one_of_its_module(package):
    for name in package.__all__:
        public = getattr(package, name)
        module = importlib.import_module(public.__module__)
        assert public.__name__ == ("FeatureStatistics" if name == "FeatureStats" else name)
        assert getattr(module, public.__name__) is public


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'compare_all'"):
        metrics.compare.compare_all  # noqa: B018
