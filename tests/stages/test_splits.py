"""What ``prepare`` makes of a source's splits, and what later stages do with what there is."""

import json

import numpy as np
import pytest
from source_files import tinted

from sslkit.data.shards import open_split

QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", 0]


@pytest.fixture
def prepared(sslkit, tmp_path):
    """Write images {path: class number}, prepare them: (the run, the results, the lines for people)."""

    def prepare(files, *words):
        for number, (name, label) in enumerate(files.items()):
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tinted(label, number, "PNG", 8))
        run = tmp_path / "run"
        code, _, err = sslkit("prepare", run, "--source", tmp_path / "root", "--workers", 0, *words)
        assert code == 0, err
        _, shown, _ = sslkit("prepare", run, "--source", tmp_path / "root", "--workers", 0, *words)
        results = json.loads((run / "data/stage.json").read_text())["results"]
        return run, results, shown

    return prepare


def classes_of(count, folder="", names=("ant", "bee", "cat")):
    return {f"{folder}{name}/{i}.png": label for label, name in enumerate(names) for i in range(count)}


def labels(run, split):
    return np.bincount(open_split(run / "data", split).labels).tolist()


def test_without_val_a_tenth_of_every_class_is_held_out_and_said(prepared):
    run, results, shown = prepared(classes_of(40))
    assert (results["train"], results["val"]) == (108, 12)
    assert labels(run, "val") == [4, 4, 4]
    assert "val is 12 of the 120 images found for train, readable or not, held out by --seed" in shown
    assert "0.1 of every class, at least one; --val-fraction 0 keeps all for training" in shown


def test_a_val_held_out_of_unlabelled_images_speaks_of_no_classes(prepared):
    _, results, shown = prepared({f"{i}.png": 0 for i in range(20)})
    assert (results["train"], results["val"]) == (18, 2)
    assert "held out by --seed: 0.1 of them, at least one; --val-fraction 0" in shown


def test_no_val_on_request_and_extract_writes_train_alone(prepared, sslkit):
    run, results, shown = prepared(classes_of(8), "--val-fraction", 0)
    assert results["train"] == 24
    assert "val" not in results
    assert "there is no val" in shown
    code, out, err = sslkit("extract", run, "--weights", "pixels", *QUICK)
    assert code == 0, err
    assert "train" in out
    assert [path.name for path in (run / "features").iterdir() if path.is_dir()] == ["train"]
    for stage in ("knn", "linear", "neighbours"):
        code, _, err = sslkit(stage, run)
        assert code == 1
        assert "has no val: this stage requires a labelled train and val" in err
        assert "--val-fraction 0.1" in err


def test_unlabelled_images_all_get_features_and_probes_say_what_is_missing(prepared, sslkit):
    run, results, _ = prepared({f"{i}.png": i % 3 for i in range(30)})
    assert (results["train"], results["val"], results["classes"]) == (27, 3, 0)
    code, _, err = sslkit("extract", run, "--weights", "pixels", *QUICK)
    assert code == 0, err
    for split, count in (("train", 27), ("val", 3)):
        assert np.load(run / f"features/{split}/cls.npy").shape[0] == count
    code, _, err = sslkit("knn", run)
    assert code == 1
    assert "has no labels" in err
    assert "--labels FILE" in err


def test_the_names_of_both_splits_are_said_when_val_and_test_exist(prepared):
    files = classes_of(6, "train/") | classes_of(2, "val/") | classes_of(3, "test/")
    _, results, shown = prepared(files)
    assert (results["train"], results["val"]) == (18, 6)
    assert "train/ and val/" in shown
    assert "test (9)" in shown


def test_a_class_that_train_lacks_is_said(prepared):
    _, _, shown = prepared(classes_of(6, "train/", ("ant", "bee")) | classes_of(2, "val/", ("ant", "bee", "cat")))
    assert "1 class of val has no image in train (cat; 2 images)" in shown


def test_a_val_without_labels_next_to_a_labelled_train_is_said_and_can_be_replaced(prepared):
    files = classes_of(10, "train/") | {f"val/{i}.png": i % 3 for i in range(6)}
    _, results, shown = prepared(files)
    assert results["labelled"] == {"train": True, "val": False}
    assert "val has no labels although train has some" in shown
    run, results, shown = prepared(files, "--val-fraction", 0.2, "--force")
    assert (results["train"], results["val"]) == (24, 6)
    assert results["labelled"]["val"]
    assert labels(run, "val") == [2, 2, 2]
    assert "the source's val is not used: none of its 6 images has a label" in shown


def test_a_test_without_labels_is_not_val_where_train_has_labels(prepared, tmp_path):
    files = {f"train_images/{i}.png": i % 2 for i in range(24)} | {f"test_images/t{i}.png": 0 for i in range(6)}
    (tmp_path / "root").mkdir()
    (tmp_path / "root/train.csv").write_text("id,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(24)))
    run, results, shown = prepared(files)
    assert (results["train"], results["val"]) == (22, 2)
    assert labels(run, "val") == [1, 1]
    assert "note   test is not used: none of its 6 images has a label" in shown
    assert "val is 2 of the 24 images found for train, readable or not, held out by --seed" in shown
    assert "in train_images/\n" in shown


def test_a_test_without_labels_is_val_where_train_has_none_either(prepared):
    _, results, shown = prepared({f"{split}/{i}.png": 0 for split in ("train", "test") for i in range(12)})
    assert (results["train"], results["val"]) == (12, 12)
    assert "note   val is the source's test" in shown


def test_val_stays_whole_unless_it_is_cut_too(prepared):
    files = classes_of(8, "train/") | classes_of(6, "val/")
    _, results, shown = prepared(files, "--per-class", 2)
    assert (results["train"], results["val"]) == (6, 18)
    assert "val stays whole (18 images): --per-class cuts only train" in shown
    assert "add the switch --subset-val (it takes no number)" in shown
    run, results, shown = prepared(files, "--fraction", 0.5, "--subset-val", "--force")
    assert (results["train"], results["val"]) == (12, 9)
    assert labels(run, "val") == [3, 3, 3]
    assert "stays whole" not in shown


def test_five_images_keep_all_for_training_and_get_a_hint_that_works(prepared, sslkit, tiny_scale):
    run, results, shown = prepared({f"{'ab'[i % 2]}/{i}.png": i % 2 for i in range(5)})
    assert results["train"] == 5
    assert "only 5 images" in shown
    words = ["pretrain", run, "--recipe", "simclr", "--recipe", tiny_scale, *QUICK]
    code, _, err = sslkit(*words)
    assert code == 2
    assert "--batch-size 4" in err
    code, _, err = sslkit(*words, "--batch-size", 4)
    assert code == 0, err


def test_one_class_is_one_class_and_nothing_skipped_is_not_said(prepared):
    _, _, shown = prepared({f"only/{i}.png": 0 for i in range(12)} | {"only/sub/x.png": 0})
    assert "1 class," in shown
    assert "skipped" not in shown


def test_labels_of_a_csv_and_features_that_name_their_files(prepared, sslkit, tmp_path):
    rows = "".join(f"{i:03d}.png,{('ant', 'bee', 'cat')[i % 3]}\n" for i in range(24))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/labels.csv").write_text(f"filename,label\n{rows}")
    run, results, shown = prepared({f"img/{i:03d}.png": i % 3 for i in range(24)})
    assert results["train"] + results["val"] == 24
    assert open_split(run / "data", "train").classes == ["ant", "bee", "cat"]
    assert "labels.csv (files in filename, classes in label)" in shown
    code, _, err = sslkit("extract", run, "--weights", "pixels", *QUICK)
    assert code == 0, err
    split = open_split(run / "data", "train")
    samples = [json.loads(line) for line in (run / "features/train/samples.jsonl").read_text().splitlines()]
    assert len(samples) == len(split)
    for i, sample in enumerate(samples):
        assert set(sample) == {"name", "key", "label", "class"}
        assert sample["class"] == ("ant", "bee", "cat")[int(sample["name"][-7:-4]) % 3]
        assert sample["key"] == split.key(i)
        assert split.image(i).float().mean((1, 2)).argmax() == sample["label"]
    assert sslkit("knn", run, "--k", 3)[0] == 0
    assert sslkit("embed", run, "--method", "pca", "--split", "train")[0] == 0
    assert samples[0]["name"] in (run / "embed/index.html").read_text()


def test_labels_that_a_source_has_of_its_own_are_not_replaced(sslkit, tmp_path):
    code, _, err = sslkit("prepare", tmp_path / "run", "--source", "digits", "--labels", "labels.csv")
    assert code == 2
    assert "--labels goes with a folder of images" in err


def test_any_bytes_in_a_name_work_everywhere(prepared, sslkit):
    latin, emoji = "caf\udce9", "\N{BUG} bugs"
    run, _, shown = prepared(
        {f"{name}/{i} \udce4.png": label for label, name in enumerate((latin, emoji)) for i in range(12)}
    )
    assert "2 classes" in shown
    assert open_split(run / "data", "train").classes == ["café", emoji]
    for words in (["extract", run, "--weights", "pixels", *QUICK], ["knn", run, "--k", 3], ["neighbours", run],
                  ["embed", run, "--method", "pca", "--split", "train"], ["status", run]):  # fmt: skip
        code, _, err = sslkit(*words)
        assert code == 0, (words, err)
    names = {json.loads(line)["name"] for line in (run / "features/train/samples.jsonl").read_text().splitlines()}
    assert all(name.endswith("\udce4.png") for name in names)
    page = (run / "embed/index.html").read_text()
    assert "\\u00e4.png" in page


def test_data_that_moved_are_the_same_data(prepared, sslkit, tmp_path):
    data, _, _ = prepared(classes_of(8))
    run = tmp_path / "features"
    assert sslkit("extract", run, "--data", data, "--weights", "pixels", *QUICK)[0] == 0
    data.rename(tmp_path / "moved")
    _, out, _ = sslkit("status", run, "--json")
    assert json.loads(out)["stages"]["extract"]["stale"] == ["data"]
    code, _, err = sslkit("extract", run, "--data", tmp_path / "moved", "--weights", "pixels", *QUICK)
    assert code == 0
    assert "up to date" in err
    _, out, _ = sslkit("status", run, "--json")
    assert json.loads(out)["stages"]["extract"]["stale"] == []


def test_a_scale_before_a_method_a_single_ratio_and_a_wrong_architecture(sslkit):
    _, _, err = sslkit("recipes", "show", "attmask", "small32")
    assert "scale" not in err
    from stages.inputs.recipes import about_order, find

    assert not about_order([find("attmask"), find("small32")])
    assert "the scale goes last: --recipe dino --recipe small32" in about_order([find("small32"), find("dino")])

    from sslkit.encoder.spec import is_vit
    from sslkit.errors import UsageError
    from sslkit.recipe.schema import resolve

    assert resolve([find("attmask")], ["mask.ratio=0.3"]).mask.ratio == (0.3, 0.3)
    for wrong in ("vit_smal", "vit_smal_patch16_224"):
        with pytest.raises(UsageError, match="did you mean 'vit_small_patch16_224'"):
            is_vit(wrong)


@pytest.mark.parametrize(("words", "named"), [
    (["--source", "ROOT", "--labels", "absent.csv"], "--labels absent.csv: no such file"),
    (["--source", "EMPTY"], "No images found in "),
    (["--source", "ROOT", "--classes", 9], "--classes 9: the source has 3 classes"),
    (["--source", "ROOT", "--seed", 1], "prepare ran before with other settings: "),
])  # fmt: skip
def test_a_mistake_is_named_before_the_advice_to_redo_what_is_prepared(words, named, prepared, sslkit, tmp_path):
    run, _, _ = prepared(classes_of(4))
    (tmp_path / "empty").mkdir()
    places = {"ROOT": tmp_path / "root", "EMPTY": tmp_path / "empty"}
    before = (run / "data/stage.json").read_bytes()
    code, _, err = sslkit("prepare", run, "--workers", 0, *(places.get(word, word) for word in words))
    assert code != 0
    assert named in err
    assert ("ran before" in err) == named.startswith("prepare ran before")
    assert (run / "data/stage.json").read_bytes() == before
