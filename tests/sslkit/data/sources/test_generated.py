"""Sources that need no files: digits and shapes."""

import pickle

import numpy as np
import pytest
from source_files import opened

from sslkit import registry
from sslkit.data import images
from sslkit.data.sources.base import PACKAGE


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_sources_that_need_nothing_keep_the_contract(name, tmp_path):
    source = opened(name, None, tmp_path)
    splits = source.splits()
    assert set(splits) == {"train", "val"}
    for split, labels in splits.items():
        assert labels.dtype == np.int64 and set(labels.tolist()) == set(range(len(source.classes)))
        for i in (0, 1, len(labels) - 1):
            sample = source.read(split, i)
            assert sample.label == labels[i]
            assert images.extension(sample.image) == sample.extension
            assert images.decode(sample.image).shape[0] == 3
            again = pickle.loads(pickle.dumps(source)).read(split, i)
            assert again == sample
    assert source.fingerprint() == registry.load(PACKAGE, name)(None, 0).fingerprint()


def test_digits_are_the_digits(tmp_path):
    from sklearn.datasets import load_digits

    source, digits = opened("digits", None, tmp_path), load_digits()
    labels = np.concatenate(list(source.splits().values()))
    np.testing.assert_array_equal(labels, digits.target)
    first = images.decode(source.read("train", 3).image)[0].float()
    assert first.shape == (32, 32)
    small = first.reshape(8, 4, 8, 4).mean((1, 3)).numpy()
    assert np.corrcoef(small.ravel(), digits.images[3].ravel())[0, 1] > 0.95
    assert source.read("val", 0).key == "1437"
