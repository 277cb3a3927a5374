"""`sslkit segment` from the command line: what is measured, beside what, and what it says when it cannot."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslkit import rng
from sslkit.artifacts import read_json
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.data.sources.shapes import TEXTURES, compose
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.files import write_json
from sslkit.weights.write import save_encoder

SPEC = EncoderSpec("vit_tiny_patch16_224", image_size=64, patch_size=8, width=48, depth=2, heads=3)
QUICK = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="session")
def taught(tmp_path_factory) -> Path:
    """An encoder whose CLS was taught, in a few seconds, to attend to the objects of `shapes`."""
    names, draws = sorted(TEXTURES), range(192)
    made = [compose(names[i % len(names)], rng.generator(7, "test/taught", i)) for i in draws]
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = (torch.from_numpy(np.stack([image for image, _ in made])).permute(0, 3, 1, 2) / 255 - mean) / std
    share = torch.from_numpy(np.stack([mask for _, mask in made])).float()
    share = share.unfold(1, 8, 8).unfold(2, 8, 8).mean((3, 4)).flatten(1)
    share = share / share.sum(1, keepdim=True)
    torch.manual_seed(0)
    encoder = Encoder(SPEC)
    optimizer = torch.optim.AdamW(encoder.parameters(), 2e-3)
    for step in range(48):
        rows = slice(48 * (step % 4), 48 * (step % 4) + 48)
        attention = encoder(pixels[rows], attention=True).attention
        loss = -(share[rows, None] * (attention + 1e-6).log()).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("taught")
    save_encoder(encoder.eval(), folder / "encoder.safetensors", folder / "encoder.json", "teacher")
    return folder / "encoder.safetensors"


@pytest.fixture
def run(tmp_path, taught) -> Path:
    """A run that holds the taught encoder."""
    pretrain = tmp_path / "run" / "pretrain"
    pretrain.mkdir(parents=True)
    for name in ("encoder.safetensors", "encoder.json"):
        shutil.copy(taught.with_name(name), pretrain / name)
    return tmp_path / "run"


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Six photos of unequal sizes with masks of two classes, a void border and, in one, no object."""
    images, masks = tmp_path / "pets" / "images", tmp_path / "pets" / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    for i in range(6):
        image, mask = compose("dots", rng.generator(3, "test/photos", i))
        labels = np.where(mask, 1 + i % 2, 0).astype(np.uint8)
        labels[:4] = 255
        cut = slice(0, 64 - 8 * (i % 2))
        Image.fromarray(image[:, cut]).save(images / f"cat {i}.jpg")
        Image.fromarray(labels[:, cut] if i != 4 else np.zeros((64, 64), np.uint8)).save(masks / f"cat {i}.png")
    return images, masks


def test_a_taught_encoder_is_above_a_random_one(run, shapes_run, sslkit):
    protocols = ("--protocol", "ncut,attention", "--protocol", "probe")  # with commas, or more than once
    words = ("segment", run, "--data", shapes_run, *protocols, "--count", 50, *QUICK)
    code, out, err = sslkit(*words, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert (results["images"], results["masks"], results["image_size"]) == (50, "binary", 64)
    attention, probe = results["attention"], results["probe"]
    for choice in ("best_head", "fixed_head", "lowest_entropy", "mean_of_heads"):
        gap = attention["difference"][choice]
        assert gap["jaccard"] > 8, (choice, gap)
        assert gap["interval"][0] > 3, (choice, gap)
        assert gap["jaccard"] == pytest.approx(
            attention["trained"][choice]["jaccard"] - attention["random"][choice]["jaccard"]
        )
        low, high = attention["trained"][choice]["interval"]
        assert low < attention["trained"][choice]["jaccard"] < high
        assert attention["trained"]["best_head"]["jaccard"] >= attention["trained"][choice]["jaccard"]
    whole = {name: row["jaccard"] for name, row in results["whole_picture"].items()}
    assert attention["trained"]["mean_of_heads"]["jaccard"] > whole["attention"] + 5
    assert whole["ncut"] == pytest.approx(whole["attention"])  # one object in each
    assert probe["trained"]["train_patches"] / probe["trained"]["train_photos"] == 64
    assert probe["trained"]["patches_per_photo"] == 200_000 // 50
    assert probe["difference"]["miou"] > 8
    assert probe["difference"]["interval"][0] > 3
    assert set(probe["trained"]["iou"]) == {"background", "object"}
    assert probe["trained"]["pixel_accuracy"] > 80
    assert results["headline"] == {
        "jaccard": attention["trained"]["best_head"]["jaccard"],
        "ncut": results["ncut"]["trained"]["jaccard"],
        "miou": probe["trained"]["miou"],
    }
    folder = run / "segment"
    assert read_json(folder / "results.json") == results
    with np.load(folder / "jaccard.npz") as arrays:
        assert 100 * arrays["trained_best_head"].mean() == pytest.approx(results["headline"]["jaccard"])
        assert 100 * arrays["random_ncut"].mean() == pytest.approx(results["ncut"]["random"]["jaccard"])
        assert arrays["trained_heads"].shape == (50, 3)
        assert len(arrays["names"]) == 50
        assert np.array_equal(arrays["trained_heads"].max(1), arrays["trained_best_head"])  # one object in each
        assert arrays["trained_confusion"].sum() == 50 * 64 * 64
    for picture in results["pictures"]:
        with Image.open(folder / picture["file"]) as opened:
            assert opened.info["Description"] == picture["alt"]
            assert len(picture["alt"]) > 60
    assert f"{attention['random']['best_head']['jaccard']:.1f} (random)" in results["pictures"][0]["alt"]
    code, out, err = sslkit(*words)
    assert code == 0
    assert "up to date" in err
    assert "attention: best head" in out
    assert "whole picture" in out
    assert read_json(run / "data" / "reference.json")["run"]
    code, _, err = sslkit(*words, "--mass", 0.5)
    assert code == 1
    assert "mass" in err
    assert "--force" in err


def test_photos_with_masks_of_classes(run, folders, sslkit):
    images, masks = folders
    words = ("segment", run, "--images", images, "--masks", masks, *QUICK)
    code, out, err = sslkit(*words, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert (results["images"], results["photos_with_objects"]) == (6, 5)
    assert results["classes"] == ["0", "1", "2"]
    assert set(results["headline"]) == {"jaccard", "ncut", "miou"}
    assert "1 photo contains no object" in err
    folder = run / "segment-pets"  # a variant of its own: other photos do not take its place
    with np.load(folder / "jaccard.npz") as arrays:
        assert arrays["names"].tolist() == [f"cat {i}" for i in (0, 1, 2, 3, 5)]
        pixels = sum(64 * (64 - 8 * (i % 2)) - 4 * (64 - 8 * (i % 2)) * (i != 4) for i in range(6))
        assert 0 < arrays["trained_confusion"].sum() < pixels
        assert len(arrays["trained_confusion"]) == 3
    before = (folder / "results.json").read_bytes(), (folder / "examples.png").read_bytes()
    assert sslkit(*words, "--force")[0] == 0
    assert before == ((folder / "results.json").read_bytes(), (folder / "examples.png").read_bytes())
    Image.fromarray(np.full((64, 64), 1, np.uint8)).save(masks / "cat 4.png")
    assert "other settings" in sslkit(*words)[2]


def test_folders_of_one_name_do_not_share_results(run, folders, tmp_path, sslkit):
    images, masks = folders
    other = tmp_path / "other" / "pets"
    shutil.copytree(images.parent, other)
    words = ("--protocol", "ncut", "--count", 2, *QUICK)
    assert sslkit("segment", run, "--images", images, "--masks", masks, *words)[0] == 0
    moved = ("segment", run, "--images", other / "images", "--masks", other / "masks", *words)
    assert "up to date" in sslkit(*moved)[2]  # the same photos elsewhere are the same photos
    Image.fromarray(np.full((64, 64, 3), 9, np.uint8)).save(other / "images" / "cat 0.jpg")
    before = (run / "segment-pets" / "results.json").read_bytes()
    code, _, err = sslkit(*moved)
    assert code == 1
    assert err.count("\n") == 1
    assert f"holds results on the photos in {images}" in err
    assert "rename one of the two folders, or replace the results with --force" in err
    assert (run / "segment-pets" / "results.json").read_bytes() == before
    # Two folders of photos side by side have two names.
    shutil.copytree(other / "images", other / "kittens")
    code, _, err = sslkit("segment", run, "--images", other / "kittens", "--masks", other / "masks", *words)
    assert code == 0, err
    assert (run / "segment-pets-kittens" / "results.json").exists(), err


def test_the_whole_picture_is_judged_as_each_protocol_is(run, folders, sslkit):
    images, masks = folders
    for i in range(6):  # two objects side by side in every photo
        width = 64 - 8 * (i % 2)
        labels = np.zeros((64, width), np.uint8)
        labels[:32, :8], labels[:32, 8:40] = 1, 2
        Image.fromarray(labels).save(masks / f"cat {i}.png")
    words = ("--protocol", "attention,ncut", *QUICK)
    code, out, err = sslkit("segment", run, "--images", images, "--masks", masks, *words, "--json")
    assert code == 0, err
    whole = json.loads(out)["whole_picture"]
    areas = np.array([64 * (64 - 8 * (i % 2)) for i in range(6)])
    each, together = 100 * (32 * 8 + 32 * 32) / 2 / areas, 100 * 32 * 40 / areas
    assert whole["attention"]["jaccard"] == pytest.approx(each.mean())
    assert whole["ncut"]["jaccard"] == pytest.approx(together.mean())
    with np.load(run / "segment-pets" / "jaccard.npz") as arrays:
        assert 100 * arrays["whole_picture_as_one"] == pytest.approx(together)
    _, out, _ = sslkit("segment", run, "--images", images, "--masks", masks, *words)
    lines = [line for line in out.splitlines() if "the whole picture" in line]
    assert [line.split(":")[0] for line in lines] == ["attention", "ncut"]
    assert f"{together.mean():.1f}" in lines[1]


def test_a_random_encoder_stands_alone_and_count_spreads(run, shapes_run, tmp_path, sslkit):
    words = ("--like", run, "--weights", "random", "--data", shapes_run, "--count", 5, "--protocol", "ncut", *QUICK)
    code, out, err = sslkit("segment", tmp_path / "random", *words, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results["images"] == 5
    assert set(results["ncut"]) == {"random"}
    assert "attention" not in results
    assert results["headline"] == {"ncut": results["ncut"]["random"]["jaccard"]}
    code, out, _ = sslkit("segment", tmp_path / "random", *words)
    assert code == 0
    assert "ncut" in out


@pytest.fixture
def without_cls(tmp_path) -> Path:
    """An encoder with no CLS token, by its weights."""
    torch.manual_seed(0)
    spec = EncoderSpec("vit_medium_patch16_gap_240", image_size=32, patch_size=8, width=24, depth=1, heads=3)
    save_encoder(Encoder(spec), tmp_path / "gap.safetensors", tmp_path / "gap.json", "teacher")
    return tmp_path / "gap.safetensors"


def test_without_cls_the_other_protocols_go_on(without_cls, tmp_path, shapes_run, sslkit):
    words = ("segment", tmp_path / "gap", "--data", shapes_run, "--weights", without_cls, "--count", 4, *QUICK)
    code, out, err = sslkit(*words)
    assert code == 0, err
    assert "no attention: vit_medium_patch16_gap_240 has no CLS token" in out
    assert "ncut" in out
    results = read_json(tmp_path / "gap" / "segment" / "results.json")
    assert "CLS" in results["unavailable"]["attention"]
    assert set(results["headline"]) == {"ncut"}
    code, _, err = sslkit(*words, "--protocol", "attention", "--force")
    assert code == 1
    assert "try --protocol ncut,probe" in err
    assert err.count("\n") == 2  # the weights' line, and the error


def test_what_cannot_be_done_is_one_line(run, folders, shapes_run, tmp_path, sslkit):
    images, masks = folders

    def fails(*words, code=1) -> str:
        found, _, err = sslkit("segment", run, *words, *QUICK)
        assert found == code
        assert "Traceback" not in err
        return err.splitlines()[-1]

    assert "require each other" in fails("--images", images, code=2)
    assert "name only one" in fails("--images", images, "--masks", masks, "--data", shapes_run, code=2)
    assert "did you mean 'ncut'?" in fails("--protocol", "ncuts", "--data", shapes_run, code=2)
    assert "no patches to segment" in fails("--weights", "pixels", "--data", shapes_run, code=2)
    assert "run `sslkit prepare" in fails()
    # What is wrong with the photos is found before anything is thrown away or written.
    (run / "segment-pets").mkdir()
    (run / "segment-pets" / "older").write_text("")
    few = ("--images", images, "--masks", masks, "--count", 3, "--protocol", "probe", "--force")
    assert "the probe needs four photos with masks, but there are 3" in fails(*few)
    Image.fromarray(np.full((8, 9), 1, np.uint8)).save(masks / "cat 0.png")
    assert "cat 0.png has 8 x 9 pixels, its image 64 x 64" in fails("--images", images, "--masks", masks, "--force")
    assert [path.name for path in (run / "segment-pets").iterdir()] == ["older"]


def prepared(folder: Path, masks: list[bytes | None]) -> Path:
    """A run whose val has grey images with these masks."""
    from sslkit.data.images import encode_png
    from sslkit.data.shards import Record, write_shard

    grey = encode_png(np.full((64, 64, 3), 90, np.uint8))
    members = [{"png": grey} | ({} if mask is None else {"mask.png": mask}) for mask in masks]
    records = [Record(f"val-{i}", 0, one) for i, one in enumerate(members)]
    index = write_shard(folder / "data" / "val-000000.tar", records, [])
    shards = [{"file": "val-000000.tar", "sha256": index.facts["sha256"]}]
    splits = {"val": {"samples": len(records), "shards": shards}}
    write_json(folder / "data" / "manifest.json", {"classes": ["a"], "splits": splits})
    return folder


def test_prepared_data_without_masks_or_objects_says_so_and_leaves_what_was_there(run, tmp_path, sslkit):
    from sslkit.data.images import encode_png

    (run / "segment").mkdir()
    (run / "segment" / "older").write_text("")
    plain, empty = (prepared(tmp_path / name, [mask]) for name, mask in {
        "plain": None, "empty": encode_png(np.zeros((64, 64), np.uint8))}.items())  # fmt: skip
    code, _, err = sslkit("segment", run, "--data", plain, *QUICK, "--force")
    assert code == 1
    assert "val of the prepared data has no object masks" in err
    assert "--images DIR --masks DIR" in err
    code, _, err = sslkit("segment", run, "--data", empty, *QUICK, "--force")
    assert code == 1
    assert "no mask of val has an object" in err
    assert [path.name for path in (run / "segment").iterdir()] == ["older"]


def test_images_without_a_mask_among_others_are_left_out(run, tmp_path, sslkit):
    from sslkit.data.images import encode_png

    mask = np.zeros((64, 64), np.uint8)
    mask[:16, :16] = 255
    drawn = encode_png(mask)
    data = prepared(tmp_path / "partly", [None, drawn, None, drawn, drawn])
    code, out, err = sslkit("segment", run, "--data", data, "--protocol", "ncut", *QUICK, "--json")
    assert code == 0
    assert "2 images of val have no mask, left out" in err
    assert json.loads(out)["images"] == 3
    with np.load(run / "segment" / "jaccard.npz") as arrays:
        assert arrays["names"].tolist() == ["val-1", "val-3", "val-4"]


def test_a_difference_that_rounds_to_zero_has_no_sign(tmp_path):
    from stages.segment import _lines

    cell = {"jaccard": 10.0, "interval": [9.0, 11.0]}
    gap = {"jaccard": -0.03, "interval": [-0.4, 0.04]}
    results = {"images": 3, "masks": "binary", "image_size": 32, "unavailable": {}, "pictures": []}
    results["ncut"] = {"trained": cell, "random": cell, "difference": gap}
    assert "0.0 (-0.4 to 0.0)" in _lines(results, tmp_path)[2]
    assert "-0.0" not in _lines(results, tmp_path)[2]
