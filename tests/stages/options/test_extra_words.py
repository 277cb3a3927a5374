"""Words that the parser has no place for: the message says how to write what was meant."""

import pytest

PRETRAIN = ("pretrain", "runs/a", "--recipe", "dino")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((*PRETRAIN, "--set", "encoder.depth", "2"), "(2): write --set encoder.depth=2 (see"),
        (("pretrain", "--set", "encoder.depth", "2", "runs/a"), "(runs/a): write --set encoder.depth=2 (see"),
        ((*PRETRAIN, "--set", "encoder.depth", "=", "2"), "(= 2): write --set encoder.depth=2 (see"),
        ((*PRETRAIN, "--set", "encoder.depth=", "2"), "(2): write --set encoder.depth=2 (see"),
        (
            (*PRETRAIN, "--set", "optim.betas=[0.9,", "0.95,", "0.98]", "x"),
            "write --set 'optim.betas=[0.9, 0.95, 0.98]' (see",
        ),
        (
            (*PRETRAIN, "--set", "encoder.depth=2", "train.epochs=3"),
            "(train.epochs=3): write --set before each: --set encoder.depth=2 --set train.epochs=3 (see",
        ),
        ((*PRETRAIN, "small32"), "(small32): write --recipe before each: --recipe dino --recipe small32 (see"),
        (("prepare", "runs/a", "--subset-val", "200"), "(200): --subset-val is a switch and takes no value: leave"),
        (("prepare", "--subset-val", "200", "runs/a"), "(runs/a): --subset-val is a switch and takes no value: leave"),
        (("prepare", "runs/a", "--force", "true"), "(true): --force is a switch and takes no value: leave out true"),
    ],
)
def test_a_message_says_how_to_write_what_was_meant(sslkit, words, hint):
    code, out, err = sslkit(*words)
    assert code == 2
    assert out == ""
    assert hint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("prepare", "--force", "runs/a", "runs/b"),  # the first is the run
        ("knn", "runs/a", "runs/b"),
        ("pretrain", "runs/a", "runs/b", "--recipe", "dino", "--set", "train.epochs=2"),
    ],
)
def test_a_word_that_no_option_explains_gets_no_hint(sslkit, words):
    code, _, err = sslkit(*words)
    assert code == 2
    assert "extra argument(s) (runs/b) (see `" in err
