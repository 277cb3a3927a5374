"""`sslkit segment` on datasets as people have them: VOC's single objects, lists, several sets of masks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_masks import mask, photo, squares

from sslkit.artifacts import read_json
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.weights.write import save_encoder

QUICK = ("--device", "cpu", "--precision", "fp32")
SIDE = 40


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A randomly initialised encoder on disk."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    spec = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=1, heads=3)
    save_encoder(Encoder(spec), folder / "encoder.safetensors", folder / "encoder.json", "teacher")
    return folder


@pytest.fixture
def run(tmp_path, encoder) -> Path:
    """A run with that encoder."""
    shutil.copytree(encoder, tmp_path / "run" / "pretrain")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    """Two persons in each of five photos, with borders of void; a list names four of them and one that is not there."""
    root, draw = tmp_path_factory.mktemp("voc") / "VOC2012", np.random.default_rng(0)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for i in range(5):
        objects = np.zeros((SIDE, SIDE), np.uint8)
        objects[4:16, 4:16], objects[20:36, 20:36] = 1, 2
        objects[16, 4:16] = objects[20:36, 19] = 255
        Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(root / f"JPEGImages/2007_{i}.jpg")
        mask(root / f"SegmentationObject/2007_{i}.png", objects, True)
        mask(root / f"SegmentationClass/2007_{i}.png", np.where((objects == 1) | (objects == 2), 15, objects), True)
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_3\n2007_1\n2007_0\n2007_2\n2008_9\n")
    (root / "ImageSets/Segmentation/one.txt").write_text("2007_4\n")
    return root


def test_voc_has_a_jaccard_per_object_next_to_that_of_classes(run, voc, sslkit):
    code, out, err = sslkit("segment", run, "--voc", voc, *QUICK, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert (results["images"], results["masks"]) == (4, "classes")
    assert results["classes"] == ["background", "person"]
    known = SIDE**2 - 12 - 16  # without void
    whole = {name: row["jaccard"] for name, row in results["whole_picture"].items()}
    assert whole["attention"] == pytest.approx(100 * (144 + 256) / 2 / known)  # the mean over the two objects
    assert whole["attention_by_class"] == whole["ncut"] == pytest.approx(100 * (144 + 256) / known)
    by_object, by_class = results["attention"]["trained"], results["attention_by_class"]["trained"]
    assert results["headline"]["jaccard"] == by_object["best_head"]["jaccard"]
    assert results["headline"]["jaccard_by_class"] == by_class["best_head"]["jaccard"]
    assert set(results["headline"]) == {"jaccard", "jaccard_by_class", "ncut", "miou"}
    assert set(results["probe"]["trained"]["iou"]) == {"background", "person"}
    assert "1 name in val.txt has no photo and is left out: 2008_9" in results["remarks"]
    assert "void, never counted: value 255 (1.8 % of the pixels); --void none counts all" in err
    folder = run / "segment-VOC2012"
    with np.load(folder / "jaccard.npz") as arrays:
        assert arrays["names"].tolist() == ["2007_3", "2007_1", "2007_0", "2007_2"]
        assert 100 * arrays["trained_best_head_by_class"].mean() == pytest.approx(by_class["best_head"]["jaccard"])
        # With several objects each has its own best head, so their mean is at least that of any single head.
        assert (arrays["trained_best_head"] >= arrays["trained_heads"].max(1) - 1e-12).all()
    code, out, err = sslkit("segment", run, "--dataset", voc, *QUICK)
    assert "up to date" in err
    for words in ("attention, single objects: best head", "attention, whole classes: best head", "probe"):
        assert words in out
    assert "best head, by class" in results["pictures"][0]["alt"]


def test_another_list_or_split_has_a_folder_of_its_own(run, voc, tmp_path, sslkit):
    code, out, err = sslkit("segment", run, "--voc", voc, "--split", "one", *QUICK)
    assert code == 0, err
    assert "no probe: the probe needs four photos with masks, but there are 1" in out
    assert read_json(run / "segment-VOC2012-one/results.json")["images"] == 1
    (tmp_path / "mine.txt").write_text("JPEGImages/2007_2.jpg SegmentationClass/2007_2.png\n2007_4 1\n")
    code, _, err = sslkit("segment", run, "--voc", voc, "--list", tmp_path / "mine.txt", "--protocol", "ncut", *QUICK)
    assert code == 0, err
    assert f"photos: those of {tmp_path / 'mine.txt'}" in err
    with np.load(run / "segment-VOC2012-mine/jaccard.npz") as arrays:
        assert arrays["names"].tolist() == ["2007_2", "2007_4"]


@pytest.fixture
def two_sets(tmp_path) -> Path:
    """Five photos with coarse and with fine masks."""
    root = tmp_path / "pets"
    for i in range(5):
        photo(root / "images" / f"{i}.jpg", 40 * i)
        mask(root / "masks" / f"{i}.png", squares(1, 1, 1, 1))
        mask(root / "fine" / f"{i}_L.png", squares(1, 2))
    return root


def test_two_sets_of_masks_are_next_to_each_other_and_comparable(run, two_sets, tmp_path, sslkit):
    few = ("--protocol", "ncut", *QUICK)
    photos = ("segment", run, "--images", two_sets / "images")
    assert sslkit(*photos, "--masks", two_sets / "masks", *few)[0] == 0
    before = (run / "segment-pets/results.json").read_bytes()
    code, _, err = sslkit(*photos, "--masks", two_sets / "fine", *few)
    assert code == 0, err
    assert "photo NAME has the mask NAME_L" in err
    assert (run / "segment-pets/results.json").read_bytes() == before
    assert read_json(run / "segment-pets-fine/results.json")["masks"] == "classes"
    shutil.copytree(run, tmp_path / "other")
    code, out, err = sslkit("compare", run, tmp_path / "other")
    assert code == 0
    for name in ("pets", "pets-fine"):
        assert f"segmentation, {name} Jaccard of the cut" in out
    assert "different" not in err
    # Masks elsewhere in folders of the same names would take their place.
    shutil.copytree(two_sets / "images", tmp_path / "a/pets/images")
    shutil.copytree(two_sets / "fine", tmp_path / "a/pets/masks")
    moved = ("segment", run, "--images", tmp_path / "a/pets/images", "--masks", tmp_path / "a/pets/masks", *few)
    code, _, err = sslkit(*moved)
    assert code == 1
    assert "would have the same name: rename one of the two folders" in err
    assert "or keep both with --name NAME" in err
    assert (run / "segment-pets/results.json").read_bytes() == before
    assert sslkit(*moved, "--name", "a")[0] == 0
    # Other settings of the same masks do not, either.
    code, _, err = sslkit(*photos, "--masks", two_sets / "fine", "--void", "2", *few)
    assert code == 1
    assert "--name NAME keeps both" in err


def test_options_that_do_not_go_together(run, two_sets, tmp_path, sslkit):
    def fails(*words, code=2) -> str:
        found, _, err = sslkit("segment", run, *words, *QUICK)
        assert found == code, err
        assert err.count("\n") == 1
        return err

    folders = ("--images", two_sets / "images", "--masks", two_sets / "fine")
    assert "name only one" in fails(*folders, "--dataset", two_sets)
    assert "--split NAME chooses a part of --dataset" in fails(*folders, "--split", "val")
    assert "--list and --palette require --images" in fails("--list", "x.txt", "--palette", "y.csv")
    assert "--void road is neither a value nor a class" in fails(*folders, "--void", "road")
    assert "nowhere.txt is not a file" in fails(*folders, "--list", tmp_path / "nowhere.txt", code=1)
    (tmp_path / "empty.txt").write_text("\n")
    assert "empty.txt is empty" in fails(*folders, "--list", tmp_path / "empty.txt", code=1)
    assert "has 2 folders of masks" in fails("--dataset", _with(two_sets, "gt"), code=1)
    assert not (run / "segment-pets").exists()


def _with(root: Path, name: str) -> Path:
    shutil.copytree(root / "masks", root / name)
    return root
