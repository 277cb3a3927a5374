"""``sslkit prepare`` on images of other ranges, channels and sizes than those of ordinary photos."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from sslkit.data.shards import open_split


def write(root, arrays):
    """Arrays as files of two classes, saved by their suffix."""
    for name, array in arrays.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, array)
        elif path.suffix in (".tif", ".tiff"):
            tifffile.imwrite(path, array)
        else:
            Image.fromarray(array).save(path)
    return root


def twelve_bit(root, low=0, high=4096, suffix="png", dtype="u2"):
    def draw(i):
        return np.random.default_rng(i).integers(low, high, (24, 24)).astype(dtype)

    return write(root, {f"{'ab'[i % 2]}/{i}.{suffix}": draw(i) for i in range(6)})


@pytest.fixture
def prepared(sslkit, tmp_path):
    """Prepare a folder, and return the results, the manifest and train."""

    def prepare(source, *options):
        words = ["--source", source, "--val-fraction", 0, "--workers", 0, "--json", "--force", *options]
        code, out, error = sslkit("prepare", tmp_path / "run", *words)
        assert code == 0, error
        manifest = json.loads((tmp_path / "run/data/manifest.json").read_text())
        return json.loads(out), manifest, open_split(tmp_path / "run/data", "train")

    return prepare


def remark(results, words):
    return next(remark for remark in results["remarks"] if words in remark)


def test_twelve_bits_are_remarked_on_and_stretched_on_request(prepared, tmp_path):
    source = twelve_bit(tmp_path / "photos")
    results, plain, dark = prepared(source)
    found = remark(results, "16-bit")
    assert "6 16-bit images use only 0 to 409" in found
    assert "--range auto" in found
    assert "range" not in plain
    assert int(max(dark.image(i).max() for i in range(6))) == 16
    results, manifest, bright = prepared(source, "--range", "auto")
    assert "0 to 4095, all within 12 bits; 6 16-bit images looked at" in remark(results, "--range auto")
    assert manifest["range"] == [0, 4095]
    assert manifest["fingerprint"] != plain["fingerprint"]
    stretched = {bright.own_name(i): bright.image(i) for i in range(6)}
    for name, image in stretched.items():
        wide = np.asarray(Image.open(source / name)).astype(float)
        np.testing.assert_array_equal(image[0].numpy(), np.rint(wide / 4095 * 255))
    _, _, same = prepared(source, "--range", "0,4095")
    assert all((same.image(i) == stretched[same.own_name(i)]).all() for i in range(6))


def test_another_range_is_another_dataset(sslkit, tmp_path):
    source, run = twelve_bit(tmp_path / "photos"), tmp_path / "run"
    sslkit("prepare", run, "--source", source, "--range", "auto", "--workers", 0)
    code, _, error = sslkit("prepare", run, "--source", source, "--range", "0,1000", "--workers", 0)
    assert code == 1
    assert "range" in error


def test_values_that_a_range_clips_are_said(prepared, tmp_path):
    results, _, _ = prepared(twelve_bit(tmp_path / "photos"), "--range", "100,1000")
    assert remark(results, "clipped").startswith("values outside of 100 to 1000 are clipped: 0 to 409")


@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_signed_values_need_a_range_and_get_one(sslkit, prepared, tmp_path, suffix):
    source = twelve_bit(tmp_path / "scans", -1024, 3072, suffix, "i2")
    code, _, error = sslkit("prepare", tmp_path / "run", "--source", source, "--workers", 0)
    assert code == 1
    assert "--range auto" in error
    results, manifest, split = prepared(source, "--range", "auto")
    low, high = manifest["range"]
    assert -1024 <= low < -1000
    assert 3000 < high < 3072
    assert "99.8 %" in remark(results, "--range auto")
    assert split.image(0).float().mean().item() == pytest.approx(127, abs=8)


def test_a_range_without_wide_images_is_said_to_do_nothing(prepared, tmp_path):
    source = write(tmp_path / "photos", {f"{i}.png": np.full((8, 8, 3), 40 * i, np.uint8) for i in range(3)})
    plain = prepared(source)[1]
    results, manifest, _ = prepared(source, "--range", "auto")
    assert "none of 3 images looked at has more than 8 bits" in remark(results, "--range auto")
    assert manifest["fingerprint"] == plain["fingerprint"]
    results, _, _ = prepared(source, "--range", "0,4095")
    assert "3 of 3 images have 8 bits, kept as in the file" in remark(results, "8 bits")


@pytest.mark.parametrize("words", ["5", "9,2", "a,b", "0,inf", "Auto"])
def test_a_wrong_range_is_wrong_usage(sslkit, tmp_path, words):
    code, _, error = sslkit("prepare", tmp_path / "run", "--source", "shapes", "--range", words)
    assert code == 2
    assert f"--range {words}: " in error


def test_large_images_are_named_with_what_to_type(prepared, tmp_path):
    photos = {name: np.zeros((20, 30, 3), np.uint8) for name in ("b.jpg", "c.webp", "d.bmp", "e.tiff")}
    source = write(tmp_path / "photos", {"a.png": np.zeros((10, 10, 3), np.uint8), **photos})
    results, _, split = prepared(source, "--max-pixels", "599")
    assert len(split) == 1
    assert "4 images are too large (such as " in remark(results, "too large")
    assert "30 x 20 pixels): --max-pixels 600 takes them" in remark(results, "too large")
    assert len(prepared(source, "--max-pixels", "600")[2]) == 5


BANDS = {f"{'ab'[i % 2]}/{i}.npy": np.random.default_rng(i).integers(0, 256, (20, 24, 13), np.uint8) for i in range(4)}


def test_thirteen_channels_are_kept(prepared, tmp_path):
    results, manifest, split = prepared(write(tmp_path / "bands", BANDS))
    assert manifest["channels"] == split.channels == 13
    assert "--set encoder.channels=13" in remark(results, "13 channels")
    assert "(H, W, C), shape (20, 24, 13)" in remark(results, "arrays")
    for i in range(4):
        np.testing.assert_array_equal(split.image(i).permute(1, 2, 0).numpy(), BANDS[split.own_name(i)])
    shrunk = prepared(tmp_path / "bands", "--size", "10")[2]
    assert shrunk.image(0).shape == (13, 10, 12)


def test_packed_arrays_are_a_source_again(prepared, tmp_path):
    folder = tmp_path / "run/data"
    prepared(write(tmp_path / "bands", BANDS))
    folder.rename(tmp_path / "shards")
    _, manifest, split = prepared(tmp_path / "shards")
    assert manifest["channels"] == 13
    assert split.image(0).shape == (13, 20, 24)


def test_an_image_of_other_channels_is_skipped_by_name(prepared, tmp_path):
    odd = {**BANDS, "b/odd.npy": np.zeros((20, 24, 7), np.uint8)}
    results, _, split = prepared(write(tmp_path / "bands", odd))
    assert (len(split), results["skipped"]) == (4, 1)
    assert "has 7 channels, not 13" in (tmp_path / "run/data/skipped.jsonl").read_text()


def test_arrays_next_to_photos_are_left_out_and_said(prepared, tmp_path):
    photos = {f"{i}.png": np.full((8, 8, 3), i, np.uint8) for i in range(3)}
    results, _, split = prepared(write(tmp_path / "mixed", {**photos, "embeddings.npy": np.zeros((3, 5))}))
    assert len(split) == 3
    assert results["left_out"] == {".npy": 1}
    assert remark(results, ".npy: arrays are images only in a folder without image files")


def test_gray_images_can_stay_gray(prepared, tmp_path):
    source = write(tmp_path / "photos", {f"{i}.png": np.full((8, 8), 30 * i, np.uint8) for i in range(3)})
    results, plain, split = prepared(source)
    assert split.image(0).shape[0] == 3
    assert "--channels 1" in remark(results, "gray")
    results, manifest, split = prepared(source, "--channels", "1")
    assert split.image(0).shape[0] == manifest["channels"] == 1
    assert results["remarks"] == [] or "gray" not in str(results["remarks"])
    assert manifest["fingerprint"] != plain["fingerprint"]
    assert [s["sha256"] for s in manifest["splits"]["train"]["shards"]] == [
        s["sha256"] for s in plain["splits"]["train"]["shards"]
    ]


@pytest.mark.parametrize("name", ["IM0001", "scan.dcm"])
def test_dicom_is_named_with_what_to_do(sslkit, tmp_path, name):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / name).write_bytes(bytes(128) + b"DICM" + bytes(40))
    code, _, error = sslkit("prepare", tmp_path / "run", "--source", tmp_path / "scans")
    assert code == 1
    assert error.count("DICOM is not read; convert it to 16-bit PNG or TIFF, then use --range auto") == 1
