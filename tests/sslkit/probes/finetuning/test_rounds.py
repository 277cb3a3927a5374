"""Rounds of fine-tuning: what is learnt from, and what never is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.probes.finetuning.prediction import LabelledImages
from sslkit.probes.finetuning.rounds import Choice, FineTuner, Round
from sslkit.probes.finetuning.settings import finetune_settings

CPU = torch.device("cpu")
SPEC = EncoderSpec("vit_tiny_patch16_224", 32, 8, width=24, depth=3, heads=3)


class Noise:
    """48 images of one size in three classes, the last 16 of which train on no label of their own."""

    def __init__(self, seed: int = 0):
        self.labels = np.arange(48) % 3
        self.pixels = np.random.default_rng(seed).integers(0, 256, (48, 3, 32, 32), np.uint8)

    def __len__(self) -> int:
        return 48

    def image(self, i: int) -> torch.Tensor:
        return torch.from_numpy(self.pixels[i])

    def object_mask(self, i: int) -> None:
        return None


KEPT, OTHERS = np.arange(32), np.arange(32, 48)


def tuner(images: Noise, lines: list[str] | None = None, early_stop: bool = False, **given) -> FineTuner:
    torch.manual_seed(0)
    settings = finetune_settings(32, False, True, **{"epochs": 1, "batch_size": 16, "lr": (0.01,), **given})
    say = (lambda line: None) if lines is None else lines.append
    start = FrozenEncoder(Encoder(SPEC).eval(), 32, CPU, "fp32")
    return FineTuner(start, images, 3, settings, early_stop, 0, say)


def learnt(images: Noise, val: Noise, folder: Path, confidence: float | None = 0.1) -> tuple[list[Round], list[bytes]]:
    """Rounds of training, and all weights of the last one."""
    one = tuner(images)
    everything = LabelledImages(val, np.arange(48), val.labels)
    rounds = one.rounds(folder, one.labelled(KEPT), everything, Choice(0.01), OTHERS, confidence)
    return rounds, [value.numpy().tobytes() for value in rounds[-1].method.state_dict().values()]


def test_pseudo_labels_add_to_the_labels_of_a_second_round(tmp_path):
    (first, second), _ = learnt(Noise(), Noise(1), tmp_path)
    assert first.pseudo_labels is not None
    taken = first.pseudo_labels["taken"]
    assert first.pseudo_labels["of"] == 16
    assert 0 < taken <= 16
    assert first.report()["images"] == 32
    assert second.report()["images"] == 32 + taken
    assert "pseudo_labels" not in second.report()


@pytest.mark.parametrize("confidence", [None, 0.1])
def test_neither_val_nor_labels_that_are_not_used_reach_the_weights(tmp_path, confidence):
    _, weights = learnt(Noise(), Noise(1), tmp_path / "a", confidence)
    hidden, val = Noise(), Noise(2)
    hidden.labels[OTHERS] = 2 - hidden.labels[OTHERS]
    val.labels = val.labels[::-1].copy()
    assert learnt(hidden, val, tmp_path / "b", confidence)[1] == weights
    hidden.labels[KEPT[:2]] = 2 - hidden.labels[KEPT[:2]]  # these are used
    assert learnt(hidden, val, tmp_path / "c", confidence)[1] != weights


def test_images_to_be_labelled_are_those_of_train_that_have_none(tmp_path):
    plain, changed = Noise(), Noise()
    changed.pixels[OTHERS] = 255 - changed.pixels[OTHERS]
    one, other = (learnt(images, Noise(1), tmp_path / str(i)) for i, images in enumerate((plain, changed)))
    assert one[0][0].predictions.predicted.tolist() == other[0][0].predictions.predicted.tolist()  # not in round 1
    assert one[1] != other[1]


def test_without_a_confident_prediction_there_is_one_round(tmp_path):
    lines: list[str] = []
    one, val = tuner(Noise(), lines), Noise(1)
    everything = LabelledImages(val, np.arange(48), val.labels)
    (only,) = one.rounds(tmp_path, one.labelled(KEPT), everything, Choice(0.01), OTHERS, 1.0)
    assert only.pseudo_labels == {"taken": 0, "of": 16, "confidence": 1.0, "accuracy": None}
    assert "no prediction reaches --confidence 1: there is no second round" in lines


def test_held_out_images_choose_and_are_not_learnt_from(tmp_path):
    parts = np.arange(24), np.arange(24, 32)
    plain, changed = Noise(), Noise()
    changed.labels[24:32] = (changed.labels[24:32] + 1) % 3
    found = []
    for name, images in (("a", plain), ("b", changed)):
        one = tuner(images, early_stop=True, lr=(1e-7, 0.01), epochs=2)
        choice, sweep = one.choose(tmp_path / name, one.labelled(KEPT), parts)
        assert [row["lr"] for row in sweep] == [1e-7, 0.01]
        assert choice.held_out_top1 == max(row["held_out_top1"] for row in sweep)
        rows = (tmp_path / name / "sweep" / "lr-0.01" / "metrics.jsonl").read_text().splitlines()
        found.append([json.loads(row)["loss"] for row in rows])
    assert found[0] == found[1]


def test_nothing_is_chosen_without_held_out_images(tmp_path):
    one = tuner(Noise(), lr=(0.02,))
    assert one.choose(tmp_path, one.labelled(KEPT), None) == (Choice(0.02), [])
    assert not list(tmp_path.iterdir())
