"""Predictions of a classifier: what the head sees, in which precision, and in which order."""

import numpy as np
import pytest
import torch
from torch import nn

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.probes.finetuning.prediction import EncoderClassifier, LabelledImages, predict

CPU = torch.device("cpu")
SPEC = EncoderSpec("vit_tiny_patch16_224", 32, 8, width=24, depth=3, heads=3)


def test_pools():
    encoder = Encoder(SPEC).eval()
    head, images = nn.Linear(24, 2), torch.randn(2, 3, 32, 32)
    tokens = encoder(images)
    assert tokens.patches is not None
    assert torch.equal(EncoderClassifier(encoder, head, "cls")(images), head(tokens.cls))
    assert torch.equal(EncoderClassifier(encoder, head, "mean")(images), head(tokens.patches.mean(1)))


def test_predictions_come_in_order_and_know_what_is_unlabelled():
    class Images:
        labels = np.array([1, -1, 0] * 50)

        def __len__(self):
            return 150

        def image(self, i):
            return torch.full((3, 32, 32), i, dtype=torch.uint8)

        def object_mask(self, i):
            return None

    torch.manual_seed(0)
    classifier = EncoderClassifier(Encoder(SPEC), nn.Linear(24, 3), "cls")
    found = predict(classifier, Images(), CPU, "fp32")
    alone = predict(classifier, LabelledImages(Images(), np.array([140]), np.array([0])), CPU, "fp32")
    assert found.predicted[140] == alone.predicted[0]
    assert found.confidence[140] == pytest.approx(alone.confidence[0])
    assert found.ranks[140] == alone.ranks[0]
    assert (found.ranks[1::3] == -1).all()
    known = Images.labels >= 0
    right = (found.predicted == Images.labels)[known].mean()
    assert found.top(1) == pytest.approx(100 * right)
    assert found.top(3) == 100
    assert classifier.training
