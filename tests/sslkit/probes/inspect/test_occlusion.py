"""`sslkit occlusion`: which patches go first, what is left of the images, and the accuracy of what is left."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import spawn
from torch import Tensor

from sslkit import rng
from sslkit.data.shards import Split, open_split
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError, UsageError
from sslkit.probes.classify.linear_classifier import LinearClassifier, check, patch_size, reads
from sslkit.probes.inspect.occlusion import Part, Plan, area, balanced, curve, dropped, judge, without
from stages.contract.layout import Run
from stages.occlusion import parse_shares

SPEC = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3)
CPU = torch.device("cpu")
COUNT = 16  # patches of 8 pixels in an image of 32


class OnePatch:
    """Right while it sees one patch of each image, which is its most attended one."""

    patch_size = 8

    def __init__(self, patch: int, attends: bool = True):
        self.patch, self.attends = patch, attends
        self.images: list[Tensor] = []

    def logits(self, images: Tensor, keep: Tensor | None) -> Tensor:
        row, column = 8 * (self.patch // 4), 8 * (self.patch % 4)
        there = images[:, :, row : row + 8, column : column + 8].abs().sum((1, 2, 3)) > 0
        if keep is not None:
            there &= (keep == self.patch).any(1)
        self.images.append(images)
        return torch.stack([~there, there], 1).float()

    def salience(self, images: Tensor) -> Tensor | None:
        salience = torch.linspace(0, 0.1, COUNT).repeat(len(images), 1)
        salience[:, self.patch] = 0.5
        return salience if self.attends else None


def part(rows: int = 5, first: int = 0, objects: Tensor | None = None) -> Part:
    images = 1 + torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Part(np.arange(first, first + rows), images, torch.ones(rows, dtype=torch.int64), objects)


SHARES = [0.0, 1 / 16, 0.5, 15 / 16]


@pytest.mark.parametrize("drop", ["pixels", "tokens"])
def test_salient_first_takes_the_one_patch_that_counts_and_background_first_keeps_it(drop):
    hits = judge([part()], OnePatch(6), Plan(SHARES, 2, drop))
    assert {kind: right.shape for kind, right in hits.items()} == {
        "random": (2, 4, 5),
        "salient": (1, 4, 5),
        "background": (1, 4, 5),
    }
    assert hits["salient"][0].all(1).tolist() == [True, False, False, False]
    assert not hits["salient"][0, 1:].any()
    assert hits["background"].all()
    assert hits["random"][:, 0].all()


def test_a_patch_survives_a_random_order_as_often_as_the_share_says():
    hits = judge([part(400)], OnePatch(3, attends=False), Plan([0.0, 0.25, 0.75], 2))
    assert list(hits) == ["random"]
    assert hits["random"].mean((0, 2)).tolist() == pytest.approx([1, 0.75, 0.25], abs=0.05)
    # What is gone stays gone along an order.
    assert not (hits["random"][:, 2] & ~hits["random"][:, 1]).any()


def test_draws_depend_on_seed_draw_and_image_alone():
    shares = [0.0, 0.5]
    whole = judge([part(40)], OnePatch(3, attends=False), Plan(shares, 3))["random"]
    parts = [part(25), part(15, first=25)]
    assert np.array_equal(judge(parts, OnePatch(3, attends=False), Plan(shares, 3))["random"], whole)
    assert np.array_equal(judge([part(40)], OnePatch(3, attends=False), Plan(shares, 1))["random"], whole[:1])
    assert not np.array_equal(whole[0], whole[1])
    other = judge([part(40)], OnePatch(3, attends=False), Plan(shares, 3, seed=1))["random"]
    assert not np.array_equal(other, whole)


def test_true_objects_go_first_or_last():
    objects = torch.zeros(4, COUNT)
    objects[:, [6, 7]] = 1.0
    objects[:, 5] = 0.3
    hits = judge([part(4, objects=objects)], OnePatch(6), Plan([0.0, 2 / 16, 13 / 16, 14 / 16]))
    assert not hits["object"][0, 1:].any()
    assert hits["off-object"][0, :3].all()
    # A patch that the object covers in part stands between the object's and the others.
    hits = judge([part(4, objects=objects)], OnePatch(5), Plan([0.0, 2 / 16, 13 / 16, 14 / 16]))
    assert hits["object"][0].all(1).tolist() == [True, True, False, False]
    assert hits["off-object"][0].all(1).tolist() == [True, True, True, False]


def test_images_without_patches_hold_the_mean_colour_there_and_nothing_else_changes():
    images = part(2).images
    gone = without(images, torch.tensor([[0, 5], [3, 15]]), 8)
    for image, patches in enumerate([(0, 5), (3, 15)]):
        for patch in range(COUNT):
            where = (
                slice(None),
                slice(8 * (patch // 4), 8 * (patch // 4) + 8),
                slice(8 * (patch % 4), 8 * (patch % 4) + 8),
            )
            wanted = torch.zeros(3, 8, 8) if patch in patches else images[image][where]
            assert torch.equal(gone[image][where], wanted)


def test_a_share_of_the_patches_never_takes_all():
    assert [dropped(share, 16) for share in (0, 0.03, 0.1, 0.5, 0.99)] == [0, 0, 2, 8, 15]


def test_rows_of_a_curve_and_its_area():
    hits = np.array([[[1, 1, 1, 1], [1, 1, 0, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]], bool)
    first, last = curve(hits, [0.0, 0.5], 16)
    assert (first["top1"], first["dropped"], first["draws"]) == (100, 0, [100, 100])
    assert (last["top1"], last["dropped"], last["draws"]) == (37.5, 8, [50, 25])
    assert area([0.0, 0.5], [100.0, 37.5]) == 68.75 and area([0.0], [7.0]) == 7.0
    assert area([0.0, 0.1, 0.9], [100.0, 0.0, 0.0]) == pytest.approx(5 / 0.9)


def test_images_are_taken_class_by_class_and_fewer_lie_inside_more():
    labels = np.array([0] * 30 + [1] * 10 + [2] * 4 + [-1] * 5)
    some, more = balanced(labels, 9, 0), balanced(labels, 24, 0)
    assert np.bincount(labels[some]).tolist() == [3, 3, 3] and np.bincount(labels[more]).tolist() == [10, 10, 4]
    assert set(some) < set(more) and sorted(more) == list(more)
    assert len(balanced(labels, 1000, 0)) == 44 and list(some) != list(balanced(labels, 9, 1))
    with pytest.raises(SslkitError, match="no labels"):
        balanced(np.full(3, -1), 2, 0)
    # Naively: by turns, in each turn by class.
    drawn = {c: rng.generator(5, "occlusion/images", c).permutation(np.flatnonzero(labels == c)) for c in range(3)}
    turns = sorted((turn, c, row) for c, rows in drawn.items() for turn, row in enumerate(rows.tolist()))
    assert balanced(labels, 17, 5).tolist() == sorted(row for _, _, row in turns[:17])


def classifier(features: str, width: int, spec: EncoderSpec = SPEC) -> LinearClassifier:
    torch.manual_seed(0)
    encoder, weight = Encoder(spec), torch.randn(4, width)
    return LinearClassifier(encoder, weight, torch.randn(4), features, CPU, "fp32")


@pytest.mark.parametrize(("features", "width"), [("cls", 24), ("cls + patch_mean", 48), ("CLS of last 2", 48)])
def test_logits_are_the_heads_on_the_features_that_it_was_trained_on(features, width):
    probe, images = classifier(features, width), torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        blocks, mean = probe.encoder.last_cls(images, 2)
    assert mean is not None
    rows = {
        "cls": blocks[:, 1],
        "cls + patch_mean": torch.cat([blocks[:, 1], mean], 1),
        "CLS of last 2": blocks.flatten(1),
    }
    wanted = rows[features] @ probe.weight.T + probe.bias
    torch.testing.assert_close(probe.logits(images, None), wanted)
    if features != "CLS of last 2":
        everything = torch.arange(COUNT).repeat(3, 1)
        torch.testing.assert_close(probe.logits(images, everything), wanted)
        # What lies in a token that is dropped is never seen.
        keep = everything[:, 1:]
        changed = images.clone()
        changed[:, :, :8, :8] = 9.0
        torch.testing.assert_close(probe.logits(changed, keep), probe.logits(images, keep))
        assert not torch.allclose(probe.logits(changed, None), wanted)


def test_salience_is_the_mean_of_the_heads_of_the_last_block():
    probe, images = classifier("cls", 24), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        attention = probe.encoder(images, attention=True).attention
    torch.testing.assert_close(probe.salience(images), sum(attention[:, head] for head in range(3)) / 3)


def test_models_without_patches_or_cls_are_judged_as_far_as_they_can():
    resnet = classifier("cls", 512, EncoderSpec("resnet18", image_size=32))
    assert patch_size(resnet.encoder) == 4 and resnet.salience(torch.zeros(1, 3, 32, 32)) is None
    assert patch_size(Encoder(EncoderSpec("resnet18", image_size=224))) == 16
    check(resnet, "pixels")
    with pytest.raises(UsageError, match="no tokens to drop"):
        check(resnet, "tokens")
    pooled = Encoder(
        EncoderSpec("vit_base_patch16_siglip_224", image_size=32, patch_size=8, width=24, depth=1, heads=3)
    )
    assert "no CLS token" in pooled.why_no_attention()
    with pytest.raises(UsageError, match="several blocks"):
        check(classifier("CLS of last 2", 48), "tokens")
    with pytest.raises(UsageError, match="31 pixels"):
        patch_size(Encoder(EncoderSpec("resnet18", image_size=31)))


def test_heads_of_other_features_are_refused():
    with pytest.raises(SslkitError, match=r"reads 48 numbers and cls of .* has 24"):
        classifier("cls", 48)
    with pytest.raises(SslkitError, match="'dreams'"):
        reads("dreams")


@pytest.mark.parametrize("text", ["", "a", "0,1", "-0.1,0.5", "nan", "50"])
def test_shares_are_numbers_below_1(text):
    with pytest.raises(UsageError, match="--shares"):
        parse_shares(text)


@pytest.fixture(scope="module")
def judged(trained_run, shapes_run, tmp_path_factory) -> Path:
    """A copy of the trained run with a linear probe; do not write to it."""
    path = tmp_path_factory.mktemp("occlusion") / "run"
    shutil.copytree(trained_run, path)
    spawn("linear", path, "--data", shapes_run, "--epochs", 10, "--device", "cpu").check_returncode()
    return path


@pytest.fixture
def run(judged, tmp_path) -> Run:
    return Run(Path(shutil.copytree(judged, tmp_path / "run")))


COMMON = ("--device", "cpu", "--precision", "fp32", "--draws", 2, "--count", 40)
SOME = ("--shares", "0.25,0.75")


def test_intact_images_are_judged_as_the_probe_judged_their_features(run, shapes_run, sslkit):
    code, out, err = sslkit("occlusion", run.path, "--data", shapes_run, *COMMON[:-1], 5000, "--shares", 0, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results["images"] == len(np.load(run.feature("val", "labels")))
    assert results["intact_top1"] == results["linear_top1"] == json.loads(run.results("linear").read_text())["top1"]


def test_the_stage_writes_curves_and_a_picture_and_is_up_to_date(run, shapes_run, sslkit):
    words = ("occlusion", run.path, "--data", shapes_run, *COMMON, *SOME)
    code, out, err = sslkit(*words, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results == json.loads(run.results("occlusion").read_text())
    rows = balanced(open_split(Run(shapes_run).data, "val").labels, 40, 0)
    head = safetensors.torch.load_file(run.linear_head)
    features, labels = (np.load(run.feature("val", name)) for name in ("cls", "labels"))
    predicted = (torch.from_numpy(features[rows]) @ head["weight"].T + head["bias"]).argmax(1).numpy()
    assert results["images"] == 40 and results["intact_top1"] == 100 * (predicted == labels[rows]).sum() / 40
    assert list(results["curves"]) == ["random", "salient", "background", "object", "off-object"]
    for kind, rows in results["curves"].items():
        assert [row["share"] for row in rows] == [0, 0.25, 0.75] and [row["dropped"] for row in rows] == [0, 4, 12]
        assert rows[0]["top1"] == results["intact_top1"]
        assert all(row["interval"][0] <= row["top1"] <= row["interval"][1] for row in rows)
        assert len(rows[0]["draws"]) == (2 if kind == "random" else 1)
        assert (rows[0]["draws_interval"] is None) == (kind != "random")
        assert results["area"][kind] == pytest.approx(
            (0.25 * (rows[0]["top1"] + rows[1]["top1"]) + 0.5 * (rows[1]["top1"] + rows[2]["top1"])) / 1.5
        )
    (picture,) = results["pictures"]
    assert (run.folder("occlusion") / picture["file"]).exists() and "Intact" in picture["alt"]
    code, out, err = sslkit(*words)
    assert code == 0 and "up to date" in err and "dropped" in out
    code, _, err = sslkit(*words, "--count", 20)
    assert code == 1 and "--force redoes it" in err
    assert sslkit(*words, "--count", 20, "--force")[0] == 0
    assert json.loads(run.results("occlusion").read_text())["images"] == 20


def test_tokens_are_a_variant_and_other_curves(run, shapes_run, sslkit):
    words = ("occlusion", run.path, "--data", shapes_run, *COMMON, *SOME, "--drop", "tokens", "--json")
    code, out, err = sslkit(*words)
    assert code == 0, err
    assert json.loads(out)["drop"] == "tokens" and run.results("occlusion:tokens").exists()
    assert not run.results("occlusion").exists()
    # A head that reads several blocks cannot be judged so; what was there stays.
    results = json.loads(run.results("linear").read_text())
    run.results("linear").write_text(json.dumps({**results, "features": "CLS of last 2"}))
    head = safetensors.torch.load_file(run.linear_head)
    head["weight"] = head["weight"].repeat(1, 2)
    safetensors.torch.save_file(head, run.linear_head)
    code, _, err = sslkit(*words, "--force")
    assert code == 2 and "several blocks" in err and run.results("occlusion:tokens").exists()


def test_another_seed_is_another_setting_and_another_encoder_makes_it_stale(run, shapes_run, sslkit):
    words = ("occlusion", run.path, "--data", shapes_run, *COMMON, *SOME)
    assert sslkit(*words)[0] == 0 and run.stale("occlusion") == []
    code, _, err = sslkit(*words, "--seed", 1)
    assert code == 1 and "seed was 0, now 1" in err and err.count("\n") == 1
    run.features_info.write_text(run.features_info.read_text() + " ")
    assert run.stale("occlusion") == ["features"]
    weights = safetensors.torch.load_file(run.encoder)
    safetensors.torch.save_file({name: value + 1 for name, value in weights.items()}, run.encoder)
    assert run.stale("occlusion") == ["weights", "features"]


def test_where_some_images_have_no_mask_objects_are_left_out_and_that_is_said(run, shapes_run, sslkit, monkeypatch):
    honest = Split.having
    monkeypatch.setattr(Split, "having", lambda split, name: honest(split, name)[3:])
    code, out, err = sslkit("occlusion", run.path, "--data", shapes_run, *COMMON[:-1], 5000, "--shares", 0.5, "--json")
    assert code == 0 and "no orders by the object: 3 of the 1000 images have no mask of one" in err
    assert list(json.loads(out)["curves"]) == ["random", "salient", "background"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--drop", "blocks"), "pixels or tokens"),
        (("--weights", "random"), "was made by"),
        (("--weights", "random", "--arch", "resnet18"), "was made by"),
    ],
)
def test_another_encoder_than_the_features_is_refused(run, shapes_run, sslkit, words, said):
    code, _, err = sslkit("occlusion", run.path, "--data", shapes_run, *COMMON, *words)
    assert code in (1, 2) and said in err and err.count("\n") == 1
    assert not run.folder("occlusion").exists()


def test_without_a_linear_probe_the_stage_says_what_makes_one(run, shapes_run, sslkit):
    shutil.rmtree(run.folder("linear"))
    code, _, err = sslkit("occlusion", run.path, "--data", shapes_run, *COMMON)
    assert code == 1 and "run `sslkit linear" in err and err.count("\n") == 1
