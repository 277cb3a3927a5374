"""Reports and model cards never call data by the name of a dataset that it is not."""

import json

import pytest
from conftest import unsealed

from stages.reporting.dataset import dataset_name
from stages.reporting.facts import read_facts


@pytest.mark.parametrize(
    ("source", "root", "classes", "name"),
    [
        ("imagenet", "/data/imagenette-subset", 10, "imagenette-subset, 10 classes in ImageNet's layout"),
        ("imagenet", "/data/ILSVRC", 1000, "imagenet"),
        ("imagenet", "/data/imagenette2-160.tgz", 10, "imagenette2-160, 10 classes in ImageNet's layout"),
        ("tiny_imagenet", "mine", 7, "mine, 7 classes in Tiny-ImageNet's layout"),
        ("tiny_imagenet", "mine", 200, "tiny_imagenet"),
        ("imagenet32", "batches", 100, "imagenet32, 100 of its 1000 classes"),
        ("cifar100", "downloads", 20, "cifar100, 20 of its 100 classes"),
        ("stl10", "downloads", 10, "stl10"),
        ("shapes", None, 3, "shapes"),
        ("folder", "photos/birds", 3, "birds"),
        ("a_plug_in_that_is_gone", None, 3, "a_plug_in_that_is_gone"),
    ],
)
def test_the_name_claims_no_more_than_the_data_is(source, root, classes, name):
    assert dataset_name(source, root, classes) == name


def test_a_report_names_a_folder_in_imagenets_layout_by_its_own_name(shapes_run, tmp_path):
    data = tmp_path / "run" / "data"
    data.mkdir(parents=True)
    (data / "manifest.json").write_bytes((shapes_run / "data/manifest.json").read_bytes())
    record = unsealed(shapes_run / "data/stage.json")
    record["config"]["source"], record["how"]["root"] = "imagenet", "/somewhere/imagenette"
    (data / "stage.json").write_text(json.dumps(record))
    assert read_facts(tmp_path / "run", "run").dataset()[0] == "imagenette, 10 classes in ImageNet's layout"
