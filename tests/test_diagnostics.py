"""Collapse, told from one logged row."""

import math

import pytest

from sslkit.diagnostics import collapses, verdict

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
