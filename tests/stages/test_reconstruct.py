"""`sslkit reconstruct`: visible patches are kept, removed ones are predicted, and the error is the training loss."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslkit.data.evaluation_crop import evaluation_crop
from sslkit.data.shards import open_split
from sslkit.files import atomic
from sslkit.methods.mae import MaskedAutoencoder, patchify
from sslkit.probes.inspect.reconstruction import InputImage, as_batch, reconstruct
from sslkit.recipe import schema as recipes
from sslkit.schedules import Moment
from sslkit.training import checkpoint
from stages import reconstruct as stage
from stages.contract.layout import Run
from stages.inputs.images import in_turns

RECIPES = Path(stage.__file__).parent / "recipes"


@pytest.fixture
def trained(tiny_scale: Path, shapes_run: Path, tmp_path: Path):
    """Writes the recipe and checkpoint of a randomly initialised MAE; settings -> run."""

    def write(*settings: str, base: str = "mae") -> Run:
        run = Run(tmp_path / "run")
        recipe = recipes.resolve([RECIPES / f"{base}.yaml", tiny_scale], settings)
        with atomic(run.recipe) as handle:
            handle.write(recipes.dump(recipe).encode())
        if base == "mae":
            torch.manual_seed(1)
            checkpoint.save(run.checkpoint, {"method": MaskedAutoencoder(recipe).state_dict()})
        return Run(run.path, shapes_run)

    return write


@pytest.fixture
def look(sslkit, shapes_run: Path, tmp_path: Path):
    """Words -> (results, arrays) of the stage on `shapes`."""

    def call(*words: object) -> tuple[dict, dict]:
        given = ["reconstruct", tmp_path / "run", "--data", shapes_run, "--precision", "fp32", "--device", "cpu"]
        code, out, err = sslkit(*given, "--json", *words)
        assert code == 0, err
        with np.load(tmp_path / "run" / "reconstruct" / stage.ARRAYS) as arrays:
            return json.loads(out), dict(arrays)

    return call


@pytest.mark.parametrize("normalise", [True, False])
def test_the_error_is_the_training_loss_and_visible_patches_are_kept(trained, look, normalise):
    run = trained(f"method.normalise={str(normalise).lower()}")
    results, arrays = look("--count", 3)
    split = open_split(run.data, "val")
    rows = in_turns(split.labels.tolist())[:256]
    assert (results["images"], results["judged"], results["removed"]) == (3, len(rows), 0.75)
    assert results["normalised"] is normalise
    original, painted = (patchify(torch.from_numpy(arrays[name]), 8) for name in ("original", "painted"))
    mask = torch.from_numpy(arrays["mask"])
    assert mask.sum(1).tolist() == [12, 12, 12]
    assert torch.equal(original[~mask], painted[~mask])
    assert not torch.equal(original[mask], painted[mask])
    # The method's own loss, on the same crops and masks.
    recipe = stage.viewing_recipe(run, None, 0)
    method = stage.open_mae(run, recipe, torch.device("cpu"))
    shown = [InputImage("", evaluation_crop(split.image(i), 32), i) for i in rows]
    with torch.no_grad():
        assert results["error"] == pytest.approx(float(method(as_batch(shown), Moment(0, 1, 1.0)).loss), rel=1e-5)
    assert arrays["error"][0] == pytest.approx(reconstruct(method, shown[:1]).errors[0], rel=1e-5)
    (picture,) = results["pictures"]
    assert f"Mean over {len(rows)} images" in picture["alt"]
    assert ("come from the original" in picture["alt"]) == normalise
    with Image.open(run.folder("reconstruct") / picture["file"]) as sheet:
        assert sheet.width > 1000


def test_images_come_from_all_classes_in_turns(trained, look):
    trained()
    _, arrays = look("--count", 40)
    names = arrays["names"].tolist()
    assert len(set(names[:10])) == 10
    assert names[:10] == names[10:20]


def test_without_normalised_targets_the_baseline_is_the_mean_visible_colour(trained):
    run = trained("method.normalise=false")
    recipe = stage.viewing_recipe(run, None, 0)
    method = stage.open_mae(run, recipe, torch.device("cpu"))
    shown = [InputImage("", evaluation_crop(open_split(run.data, "val").image(0), 32), 0)]
    painted = reconstruct(method, shown)
    pixels = painted.originals[0].double() / 255
    pixels = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    hidden = painted.masks[0].view(4, 4).repeat_interleave(8, 0).repeat_interleave(8, 1)
    errors = [(pixels[c][hidden] - pixels[c][~hidden].mean()).square() for c in range(3)]
    assert painted.flat_errors[0] == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)


def test_ratio_and_seed(trained, look, sslkit, tmp_path):
    trained("encoder.drop_path=0.5")
    results, first = look("--ratio", 0.5)
    assert results["removed"] == 0.5
    assert look("--ratio", 0.5)[0]["up_to_date"]
    code, _, err = sslkit("reconstruct", tmp_path / "run", "--seed", 1, "--device", "cpu", "--precision", "fp32")
    assert code == 1
    assert "ratio was 0.5, now 0.75; seed was 0, now 1" in err
    _, again = look("--ratio", 0.5, "--force")
    assert np.array_equal(first["painted"], again["painted"])  # no path is dropped
    _, other = look("--ratio", 0.5, "--seed", 1, "--force")
    assert not np.array_equal(first["mask"], other["mask"])


def test_own_photos_need_no_data(trained, sslkit, tmp_path):
    trained()
    noise = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    (tmp_path / "album").mkdir()
    Image.fromarray(noise).save(tmp_path / "album" / "a.png")
    code, out, err = sslkit("reconstruct", tmp_path / "run", "--images", tmp_path / "album", "--device", "cpu")
    assert code == 0, err
    assert "1 image, 75 % removed" in out
    # In their own folder, so that those of val are kept.
    assert (tmp_path / "run" / "reconstruct-album" / "reconstructions.png").exists()


def test_photos_that_cannot_be_read_leave_no_results(trained, sslkit, tmp_path):
    run = trained()
    (tmp_path / "album" / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (tmp_path / "album" / "images" / name).write_text("words")
    code, _, err = sslkit("reconstruct", run.path, "--images", tmp_path / "album" / "images", "--device", "cpu")
    assert code == 1
    assert err.count("\n") == 1
    assert "none of the 2 photos in" in err
    assert "can be read; the first is a.png: not an image" in err
    assert not list(run.path.glob("reconstruct*"))
    Image.new("RGB", (40, 40)).save(tmp_path / "album" / "images" / "a.png")
    code, out, _ = sslkit("reconstruct", run.path, "--images", tmp_path / "album" / "images", "--device", "cpu")
    assert code == 0
    assert "reconstruct-album" in out


def test_masks_that_use_the_true_object_get_it(trained, look, sslkit, tmp_path):
    run = trained("mask.strategy=oracle", "mask.ratio=[0.25,0.25]")
    _, arrays = look("--count", 1)
    split = open_split(run.data, "val")
    on_object = split.object_mask(0)
    assert on_object is not None
    cover = evaluation_crop(on_object[None], 32).float().view(4, 8, 4, 8).mean((1, 3)).flatten()
    # A quarter of the patches, and those that the object covers most.
    mask = torch.from_numpy(arrays["mask"][0])
    assert cover[mask].min() >= cover[~mask].max() - 1e-6 or cover[mask].mean() > cover[~mask].mean()
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    code, _, err = sslkit("reconstruct", tmp_path / "run", "--images", tmp_path / "a.png", "--force")
    assert code == 2
    assert err.count("\n") == 1
    assert "needs images with true object masks" in err


def test_what_cannot_be_reconstructed_is_one_line(trained, sslkit, shapes_run, tmp_path):
    def fails(*words: object) -> str:
        code, _, err = sslkit("reconstruct", tmp_path / "run", "--data", shapes_run, "--device", "cpu", *words)
        assert code
        assert err.count("\n") == 1
        return err

    assert "sslkit pretrain" in fails()
    run = trained(base="dino")
    assert "was trained by joint_embedding, which has no decoder: reconstruct requires a run of method mae" in fails()
    trained()
    assert "mask.ratio [1.0, 1.0] removes between 16 and 16 of 16 patches" in fails("--ratio", 1)
    trained("method.decoder.width=48")
    wide = run.checkpoint.read_bytes()
    trained()
    run.checkpoint.write_bytes(wide)
    assert "does not hold the model of the recipe.yaml" in fails("--force")
    run.checkpoint.write_bytes(b"nothing")
    assert "cannot be read" in fails("--force")
    shutil.rmtree(run.pretrain)
    assert "recipe.yaml is missing" in fails()
