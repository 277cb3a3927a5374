"""`sslkit attn-viz` from the command line."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslkit.data.shards import Record, write_shard
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError, UsageError
from sslkit.files import write_json
from sslkit.weights.write import save_encoder
from stages.cli import build
from stages.contract.layout import Run
from stages.inputs.images import remark_on_sizes

SPEC = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=4, width=48, depth=2, heads=3)


def png(path: Path, width: int, height: int) -> Path:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with six val images of two classes, class by class, and an encoder."""
    run = Run(tmp_path / "run")
    torch.manual_seed(0)
    save_encoder(Encoder(SPEC), run.encoder, run.encoder_info, "teacher")
    pixels = png(tmp_path / "pixels.png", 32, 32).read_bytes()
    records = [Record(f"k{i}", i // 3, {"png": pixels, "json": b"{}"}) for i in range(6)]
    index = write_shard(run.own_data / "val-000000.tar", records, [])
    shards = [{"file": "val-000000.tar", "sha256": index.facts["sha256"]}]
    splits = {"val": {"samples": len(records), "shards": shards}}
    write_json(run.manifest, {"classes": ["cat", "dog"], "splits": splits})
    return run


def attn_viz(run: Run, *words: str) -> dict:
    """The results of the command line; its errors are raised."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        build()(["attn-viz", str(run.path), "--json", *words], standalone_mode=False).execute()
    return json.loads(printed.getvalue())


def names(run: Run, stage: str = "attn-viz") -> list[str]:
    with np.load(run.folder(stage) / "maps.npz") as arrays:
        return arrays["names"].tolist()


def test_val_images_come_from_all_classes_in_turns(run: Run) -> None:
    results = attn_viz(run, "--count", "3", "--masks")
    assert (results["images"], results["heads"]) == (3, 3)
    assert Path(results["page"]).is_file()
    assert names(run) == ["k0 (cat)", "k3 (dog)", "k1 (cat)"]
    assert "attention hint" in Path(results["page"]).read_text()
    assert len(list(run.folder("attn-viz").glob("*.png"))) == 3
    assert attn_viz(run, "--count", "3", "--masks")["up_to_date"]
    with pytest.raises(SslkitError, match="count was 3, now 4"):
        attn_viz(run, "--count", "4", "--masks")


def test_count_beyond_the_split_shows_all(run: Run) -> None:
    assert attn_viz(run, "--count", "99")["images"] == 6


def test_own_photos_of_any_size_and_no_data(run: Run, tmp_path: Path) -> None:
    run.manifest.unlink()
    folder = tmp_path / "album"
    png(folder / "b" / "wide.png", 200, 64)
    png(folder / "a.PNG", 40, 40)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "notes.txt").write_text("no photo")
    assert attn_viz(run, "--images", str(folder))["images"] == 2
    assert names(run, "attn-viz:album") == ["a.PNG", "b/wide.png"]
    with np.load(run.folder("attn-viz:album") / "maps.npz") as arrays:
        assert arrays["map_0001"].shape == (3, 8, 25)


def test_a_larger_size_gives_a_finer_map(run: Run, tmp_path: Path) -> None:
    attn_viz(run, "--images", str(png(tmp_path / "one.png", 90, 90)), "--image-size", "64")
    with np.load(run.folder("attn-viz:one") / "maps.npz") as arrays:
        assert arrays["maps"].shape == (1, 3, 16, 16)


def test_other_weights(run: Run, tmp_path: Path) -> None:
    attn_viz(run, "--count", "1")
    with np.load(run.folder("attn-viz") / "maps.npz") as arrays:
        own = arrays["maps"]
    # The run's own weights by file name, in another place, give the same maps; random ones do not.
    other = tmp_path / "other"
    other.mkdir()
    for path in (run.encoder, run.encoder_info):
        (other / path.name).write_bytes(path.read_bytes())
    attn_viz(run, "--count", "1", "--weights", str(other / run.encoder.name), "--force")
    with np.load(run.folder("attn-viz") / "maps.npz") as arrays:
        assert np.array_equal(arrays["maps"], own)
    attn_viz(run, "--count", "1", "--weights", "random", "--seed", "5", "--force")
    with np.load(run.folder("attn-viz") / "maps.npz") as arrays:
        assert not np.allclose(arrays["maps"], own)


def test_random_weights_like_another_run_are_the_same_as_its_own(run: Run, tmp_path: Path) -> None:
    attn_viz(run, "--count", "1", "--weights", "random", "--seed", "5")
    with np.load(run.folder("attn-viz") / "maps.npz") as arrays:
        own = arrays["maps"]
    # A baseline has neither its own encoder nor its own data.
    baseline = Run(tmp_path / "baseline")
    attn_viz(baseline, "--count", "1", "--weights", "random", "--seed", "5", "--like", str(run.path))
    with np.load(baseline.folder("attn-viz") / "maps.npz") as arrays:
        assert np.array_equal(arrays["maps"], own)


@pytest.mark.parametrize(
    ("weights", "spec", "message"),
    [
        ("pixels", None, "a baseline of raw pixels"),
        ("random", {"arch": "vit_x", "width": None}, "--weights random --like A_PRETRAINED_RUN"),
        ("random", {"arch": "vit_x", "image_size": 32, "patch_size": 4}, "--weights random --arch vit_x"),
        ("timm", {"arch": "vit_x"}, "--arch vit_x --pretrained"),
        ("file", {"arch": "vit_x"}, "--weights .*other/w.pth --arch vit_x"),
        ("run", {"arch": "vit_x"}, "sslkit pretrain"),
    ],
)
def test_the_refusal_names_the_options_of_the_encoder_of_the_features(
    tmp_path: Path, weights: str, spec: dict | None, message: str
) -> None:
    run = Run(tmp_path / "baseline")
    run.features.mkdir(parents=True)
    inputs = {"weights": {"path": "../other/w.pth", "sha256": ""}}
    config = {"weights": weights, "encoder": spec}
    write_json(run.features / "stage.json", {"status": "done", "config": config, "inputs": inputs})
    with pytest.raises(SslkitError, match=message) as caught:
        attn_viz(run)
    assert ("sslkit pretrain" in str(caught.value)) == (weights == "run")


def test_a_size_that_is_not_the_requested_one_is_noted(sslkit, run: Run, tmp_path: Path, capsys) -> None:
    words = ["attn-viz", run.path, "--force", "--images", png(tmp_path / "one.png", 40, 40)]
    code, _, err = sslkit(*words, "--image-size", 30)
    assert code == 0
    assert err.splitlines() == ["--image-size 30 becomes 28: patches are 4 pixels wide"]
    assert sslkit(*words, "--image-size", 28)[2] == ""
    # 1200 x 8 patches are more than 8192; not encoded here, because that takes a second. Noted once for each size.
    long = torch.zeros(3, 20, 3000, dtype=torch.uint8)
    pictures = [("a", long), ("b", long), ("c", torch.zeros(3, 32, 32, dtype=torch.uint8))]
    assert [name for name, _ in remark_on_sizes(iter(pictures), 32, 4)] == ["a", "b", "c"]
    line = "a is scaled to 4200 x 28 pixels, below 32: an image has at most 8192 patches"
    assert capsys.readouterr().err.splitlines() == [line]


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["--images", "/nowhere"], SslkitError, "--images /nowhere: no such file or folder"),
        (["--weights", "/nowhere"], SslkitError, "no checkpoint at /nowhere"),
        (["--weights", "pixels"], UsageError, "pixels has no attention"),
        (["--weights", "random", "--arch", "resnet10t"], SslkitError, "resnet10t is not a ViT"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(run: Run, words: list[str], kind: type, message: str) -> None:
    with pytest.raises(SslkitError, match=message) as caught:
        attn_viz(run, *words)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_a_folder_without_photos_and_a_damaged_photo(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SslkitError, match="no images found in"):
        attn_viz(run, "--images", str(tmp_path / "empty"))
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(SslkitError, match=r"bad\.jpg: not an image"):
        attn_viz(run, "--images", str(tmp_path / "bad.jpg"))


def test_without_an_encoder_or_data_the_missing_stage_is_named(run: Run) -> None:
    run.manifest.unlink()
    with pytest.raises(SslkitError, match="sslkit prepare"):
        attn_viz(run)
    run.encoder.unlink()
    with pytest.raises(SslkitError, match="sslkit pretrain"):
        attn_viz(run)


def test_photos_that_cannot_be_read_leave_no_results(sslkit, run: Run, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        (tmp_path / "album").mkdir(exist_ok=True)
        (tmp_path / "album" / name).write_text("words")
    before = sorted(run.path.rglob("*"))
    code, _, err = sslkit("attn-viz", run.path, "--images", tmp_path / "album")
    message = (
        f"none of the 2 photos in {tmp_path / 'album'} can be read; the first is a.jpg: not an image in a known format"
    )
    assert (code, err) == (1, f"sslkit: {message}\n")
    code, _, err = sslkit("attn-viz", run.path, "--weights", "random", "--arch", "resnet10t")
    assert code == 1
    assert "is not a ViT" in err
    assert [path for path in sorted(run.path.rglob("*")) if path.name != ".lock"] == before


def test_results_on_photos_are_named_after_a_meaningful_folder(sslkit, run: Run, tmp_path: Path) -> None:
    words = ["attn-viz", run.path, "--images"]
    png(tmp_path / "one" / "pets" / "images" / "a.png", 32, 32)
    code, out, err = sslkit(*words, tmp_path / "one" / "pets" / "images")
    assert code == 0, err
    assert "attention-pets" in out
    # The same photos elsewhere are the same input; others in a folder of the same name are refused.
    png(tmp_path / "two" / "pets" / "a.png", 32, 32)
    assert "up to date" in sslkit(*words, tmp_path / "two" / "pets")[2]
    png(tmp_path / "three" / "pets" / "a.png", 40, 40)
    code, _, err = sslkit(*words, tmp_path / "three" / "pets")
    assert code == 1
    assert err.count("\n") == 1
    assert "would have the same name: rename" in err
    assert sslkit(*words, tmp_path / "three" / "pets", "--force")[0] == 0


def test_a_mask_ratio_without_masks_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="--mask-ratio requires --masks"):
        attn_viz(run, "--mask-ratio", "0.3")
