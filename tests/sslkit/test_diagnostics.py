"""Collapse, told from one logged row, and the measures of features."""

import math

import pytest
import torch

from sslkit import diagnostics
from sslkit.diagnostics import alignment, assignment_metrics, collapses, uniformity, verdict

LN_K = math.log(1024)


def row(entropy: float, marginal: float, **more: float | None) -> dict:
    values = {"dino/teacher_entropy": entropy, "dino/marginal_entropy": marginal, "dino/ln_k": LN_K}
    return {**values, "dino/prototypes_in_use": 1.0, "feature_std": 0.9, **more}


@pytest.mark.parametrize(
    ("logged", "found", "words"),
    [
        (row(2.0, 6.0), {}, []),
        # Sharp targets that are all the same, and flat ones that are all the same.
        (row(0.01, 0.02), {"dino": "one prototype"}, ["check the centring"]),
        (row(6.92, 6.93), {"dino": "uniform targets"}, ["lower the teacher's temperature"]),
        # Flat, but still different from image to image: no collapse.
        (row(6.5, 6.93), {}, []),
        (row(2.0, 6.0, feature_std=0.01), {"features": "features alike"}, ["are alike"]),
        (
            row(0.0, 0.0, feature_std=0.01),
            {"dino": "one prototype", "features": "features alike"},
            ["check the centring", "are alike"],
        ),
        # What was not measured, or was not finite, is no collapse.
        (row(math.nan, math.nan, feature_std=math.nan), {}, []),
        (row(6.92, 6.93, **{"dino/marginal_entropy": None}), {}, []),
        ({"ibot/teacher_entropy": 0.0, "loss": 1.0}, {}, []),
    ],
)
def test_collapses_and_their_words(logged: dict, found: dict, words: list[str]) -> None:
    assert collapses(logged) == found
    sentences = verdict(logged)
    assert len(sentences) == len(words)
    assert all(word in sentence for word, sentence in zip(words, sentences, strict=True))


def test_a_sentence_holds_the_figures() -> None:
    (sentence,) = verdict(row(0.01, 0.02, **{"dino/prototypes_in_use": 3.0}))
    assert "entropy 0.01 of ln K = 6.93, 3 in use" in sentence


def naive_unit(rows: list[list[float]]) -> list[list[float]]:
    return [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in rows]


def naive_distance(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def test_alignment_is_the_mean_squared_distance_of_pairs_on_the_sphere():
    first, second = (torch.randn(7, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    pairs = zip(naive_unit(first.tolist()), naive_unit(second.tolist()), strict=True)
    assert alignment(first, second) == pytest.approx(sum(naive_distance(a, b) for a, b in pairs) / 7)
    # The length of a feature says nothing, and opposite views are the worst there is.
    assert alignment(first, 3 * first) == pytest.approx(0, abs=1e-12)
    assert alignment(first, -first) == pytest.approx(4)


@pytest.mark.parametrize("at_once", [1024, 4, 1])
def test_uniformity_takes_every_pair_once(monkeypatch, at_once):
    monkeypatch.setattr(diagnostics, "PAIRS_AT_ONCE", at_once)
    features = torch.randn(9, 5, generator=torch.Generator().manual_seed(2))
    unit = naive_unit(features.tolist())
    terms = [math.exp(-2 * naive_distance(unit[i], unit[j])) for i in range(9) for j in range(i)]
    assert uniformity(features) == pytest.approx(math.log(sum(terms) / len(terms)))
    assert uniformity(features[:1].expand(6, 5)) == pytest.approx(0)
    # Two opposite points: one pair at the squared distance 4.
    assert uniformity(torch.stack([features[0], -features[0]])) == pytest.approx(-8)


def test_features_that_are_not_finite_give_nan():
    features = torch.full((4, 3), math.nan)
    assert math.isnan(alignment(features, features))
    assert math.isnan(uniformity(features))


@pytest.mark.parametrize(
    ("spread", "entropy", "marginal"), [("one", 0.0, 0.0), ("each", 0.0, 2.0794), ("flat", 2.0794, 2.0794)]
)
def test_entropies_tell_the_collapses_apart(spread, entropy, marginal):
    targets = {
        "one": torch.eye(8)[:1].repeat(8, 1),
        "each": torch.eye(8),
        "flat": torch.full((8, 8), 1 / 8),
    }[spread]
    metrics = assignment_metrics(targets, torch.tensor(3.0), torch.zeros(8))
    assert metrics["teacher_entropy"].item() == pytest.approx(entropy, abs=1e-3)
    assert metrics["marginal_entropy"].item() == pytest.approx(marginal, abs=1e-3)
    assert metrics["kl"].item() == pytest.approx(3.0 - entropy, abs=1e-3)
