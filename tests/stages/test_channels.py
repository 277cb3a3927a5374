"""Images of other channels through the stages: used where they fit, refused with what to type where they do not."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

CPU = ("--device", "cpu", "--precision", "fp32")
QUIET = ("--workers", 0)


def bands(root, channels, count=20, suffix="npy"):
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 100, (32, 32, channels)).astype(np.uint8)
        pixels[8:24, 8:24, i % 2 :: 2] += 120
        path = root / ("val" if i % 4 == 3 else "train") / "ab"[i % 2] / f"{i}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == "npy":
            np.save(path, pixels)
        else:
            Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
    return root


@pytest.fixture
def ok(sslkit):
    def call(*words):
        code, out, error = sslkit(*words)
        assert code == 0, error
        return out, error

    return call


@pytest.fixture
def five(ok, tmp_path, tiny_scale):
    """A run of five channels, with an encoder."""
    run = tmp_path / "five"
    ok("prepare", run, "--source", bands(tmp_path / "bands", 5), *QUIET)
    words = ("--recipe", "attmask", "--recipe", tiny_scale, "--epochs", 1, "--batch-size", 4, *QUIET)
    _, error = ok("pretrain", run, *words, "--set", "encoder.channels=5", "--device", "cpu")
    assert "gray, the saturation and hue of jitter left out: defined for RGB, not for 5 channels" in error
    return run


def test_five_channels_go_through_every_stage(ok, sslkit, five, tmp_path):
    info = json.loads((five / "pretrain/encoder.json").read_text())
    manifest = json.loads((five / "data/manifest.json").read_text())
    train = [np.load(path) / 255 for path in (tmp_path / "bands/train").rglob("*.npy")]
    assert info["mean"] == manifest["mean"] == pytest.approx(np.mean(train, (0, 1, 2)), abs=1e-5)
    assert info["std"] == manifest["std"] == pytest.approx(np.std(np.array(train), (0, 1, 2)), abs=1e-5)
    assert json.loads((five / "pretrain/stage.json").read_text())["config"]["views"]["mean"] == info["mean"]
    ok("extract", five, *QUIET, *CPU)
    ok("linear", five, "--augment", "--epochs", 1, *QUIET, "--device", "cpu")
    ok("attn-viz", five, "--masks", *CPU)
    ok("health", five, *CPU)
    ok("finetune", five, "--epochs", 1, "--batch-size", 8, *QUIET, *CPU)
    ok("export", five, tmp_path / "exported")
    assert "torch.rand(2, 5, 32, 32)" in (tmp_path / "exported/README.md").read_text()
    tuned = json.loads((five / "finetune/encoder.json").read_text())
    assert (tuned["mean"], tuned["timm_kwargs"]["in_chans"]) == (info["mean"], 5)
    photos = tmp_path / "photos"
    photos.mkdir()
    np.save(photos / "one.npy", np.zeros((40, 50, 5), np.uint8))
    np.save(photos / "two.npy", np.zeros((40, 50, 4), np.uint8))
    _, error = ok("attn-viz", five, "--images", photos, *CPU)
    assert "two.npy: has 4 channels, not 5" in error


def test_an_encoder_of_other_channels_is_refused_with_what_to_type(ok, sslkit, five, tiny_scale, tmp_path):
    code, _, error = sslkit("pretrain", tmp_path / "rgb", "--data", five, "--recipe", "dino", "--recipe", tiny_scale)
    assert code == 2
    assert "have 5 channels, the recipe's encoder takes 3: --set encoder.channels=5" in error
    grey = tmp_path / "grey"
    ok("prepare", grey, "--source", bands(tmp_path / "photos", 1, suffix="png"), "--channels", 1, *QUIET)
    code, _, error = sslkit("extract", grey, "--weights", five, *QUIET)
    assert code == 1
    assert "takes images of 5 channels, those of" in error
    code, _, error = sslkit("preview", grey, "--recipe", "dino", "--recipe", tiny_scale)
    assert "have 1 channel, the recipe's encoder takes 3" in error
    assert "--set encoder.channels=1, or prepare them again with --channels 3" in error


def test_published_rgb_weights_on_gray_images(ok, tmp_path, tiny_scale):
    import torch

    from sslkit.encoder.encoder import Encoder
    from sslkit.encoder.spec import EncoderSpec

    run, file = tmp_path / "grey", tmp_path / "vit.pth"
    torch.save(Encoder(EncoderSpec("vit_tiny_patch16_224", 32)).model.state_dict(), file)
    ok("prepare", run, "--source", bands(tmp_path / "photos", 1, suffix="png"), "--channels", 1, *QUIET)
    words = ("--weights", file, "--arch", "vit_tiny_patch16_224", "--image-size", 32)
    _, error = ok("extract", run, *words, *QUIET, *CPU)
    assert "3 channels adapted to 1 by timm's convention: their sum" in error


def test_own_photos_get_the_range_of_the_data(ok, tmp_path, monkeypatch):
    """An encoder that learned 12 bits as 0 to 255 must not see the same scanner's photos nearly black."""
    from stages.contract.layout import Run
    from stages.inputs.images import find_photos, images_to_draw
    from stages.options.images import ImageOptions

    run, photos = tmp_path / "run", tmp_path / "photos"
    for i in range(4):
        path = photos / f"{i}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, np.random.default_rng(i).integers(0, 4096, (20, 20), dtype=np.uint16))
    ok("prepare", run, "--source", photos, "--range", "auto", "--val-fraction", 0, *QUIET)
    drawn = images_to_draw(Run(run), ImageOptions(images=photos), 3)
    assert max(int(image.max()) for _, image in drawn.read()) == 255
    assert list(find_photos(photos, None)) == [f"{i}.tif" for i in range(4)]
    limited = images_to_draw(Run(run), ImageOptions(images=photos, max_pixels=399), 3)
    assert list(limited.read()) == []
    assert limited.config["max_pixels"] == 399


def test_advice_on_weights_of_other_channels_does_not_go_in_circles(ok, sslkit, five, tmp_path, tiny_scale):
    grey = tmp_path / "grey"
    ok("prepare", grey, "--source", bands(tmp_path / "photos", 1, suffix="png"), "--channels", 1, *QUIET)
    words = ("--recipe", "dino", "--recipe", tiny_scale, "--weights", five)
    code, _, error = sslkit("pretrain", tmp_path / "new", "--data", grey, *words)
    assert code == 2
    assert f"the encoder of --weights {five} takes 5: name weights of 1 or 3 channels" in error
    assert "--channels 5" not in error
    code, _, error = sslkit("attn-viz", five, "--images", tmp_path / "photos", "--against", grey)
    assert code == 1
