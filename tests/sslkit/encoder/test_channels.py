"""Encoders of other channels than RGB: their description, their weights, their views."""

from typing import Any

import numpy as np
import pytest
import torch

from sslkit.data import augment
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD, normalise, unnormalise
from sslkit.data.views import ViewMaker
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError, UsageError
from sslkit.recipe.schema import Recipe
from sslkit.recipe.sections import ViewsSection
from sslkit.recipe.validation import validated
from sslkit.weights.read import load_checkpoint
from sslkit.weights.write import save_encoder

SIZES: dict[str, Any] = {"image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "heads": 3}
RGB = EncoderSpec("vit_tiny_patch16_224", **SIZES)
CPU = torch.device("cpu")
BANDS: dict[str, Any] = {"mean": (0.1, 0.2, 0.3, 0.4, 0.5), "std": (0.5, 0.4, 0.3, 0.2, 0.1)}


def of(channels, **more):
    return EncoderSpec("vit_tiny_patch16_224", **SIZES, channels=channels, **more)


def test_the_description_of_rgb_is_what_it_was():
    assert set(RGB.described()) == {"arch", "image_size", "patch_size", "width", "depth", "heads", "drop_path"}
    assert "in_chans" not in RGB.timm_kwargs()
    assert of(3).timm_kwargs() == RGB.timm_kwargs()
    assert RGB.statistics == (IMAGENET_MEAN, IMAGENET_STD)


def test_channels_mean_and_std_survive_encoder_json(tmp_path):
    encoder = Encoder(of(5, **BANDS))
    save_encoder(encoder, tmp_path / "e.safetensors", tmp_path / "e.json", "student")
    info = encoder.info("student")
    assert info["timm_kwargs"]["in_chans"] == 5
    assert (tuple(info["mean"]), tuple(info["std"])) == (BANDS["mean"], BANDS["std"])
    again = Encoder.from_info(info)
    assert again.spec == encoder.spec
    frozen = FrozenEncoder(again.eval(), 32, CPU, "fp32")
    assert (frozen.mean, frozen.std) == (BANDS["mean"], BANDS["std"])
    pixels = torch.full((1, 5, 32, 32), 255, dtype=torch.uint8)
    torch.testing.assert_close(frozen.normalise(pixels)[0, :, 0, 0], torch.tensor([1.8, 2.0, 7 / 3, 3.0, 5.0]))


def test_what_nothing_is_known_of_is_normalised_like_a_grey_photo():
    mean, std = of(1).statistics
    assert mean == pytest.approx([np.mean(IMAGENET_MEAN)], abs=1e-3)
    assert std == pytest.approx([np.mean(IMAGENET_STD)], abs=1e-3)


def test_unnormalise_is_the_inverse_of_normalise():
    pixels = torch.randint(0, 256, (2, 5, 4, 4), dtype=torch.uint8)
    assert torch.equal(unnormalise(normalise(pixels, **BANDS), **BANDS), pixels)


@pytest.mark.parametrize("channels", [1, 6])
def test_rgb_weights_see_repeated_channels_as_they_saw_rgb(tmp_path, channels):
    published, adapted = Encoder(RGB).eval(), Encoder(of(channels)).eval()
    torch.save(published.model.state_dict(), tmp_path / "vit.pth")
    coverage = load_checkpoint(adapted, tmp_path / "vit.pth")
    assert f"3 channels adapted to {channels} by timm's convention" in coverage.remarks[0]
    images = torch.randn(2, 1 if channels == 1 else 3, 32, 32)
    rgb, seen = images.expand(-1, 3, -1, -1), images.repeat(1, channels // images.shape[1], 1, 1)
    torch.testing.assert_close(adapted(seen).cls, published(rgb).cls, atol=1e-5, rtol=1e-5)


def test_a_convolutional_model_is_adapted_too(tmp_path):
    published = Encoder(EncoderSpec("resnet18", 32)).eval()
    torch.save(published.model.state_dict(), tmp_path / "resnet.pth")
    adapted = Encoder(EncoderSpec("resnet18", 32, channels=1)).eval()
    load_checkpoint(adapted, tmp_path / "resnet.pth")
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(adapted(images).cls, published(images.expand(-1, 3, -1, -1)).cls, atol=1e-4, rtol=1e-4)


def test_weights_of_other_channels_name_the_option(tmp_path):
    torch.save(Encoder(of(5)).model.state_dict(), tmp_path / "vit.pth")
    with pytest.raises(SslkitError, match=r"takes images of 5 channels, the encoder 3: --set encoder.channels=5"):
        load_checkpoint(Encoder(RGB), tmp_path / "vit.pth")


def section(**augmentations):
    return validated(ViewsSection, {"global": {"count": 1, "size": 16}, "augment": augmentations})


EVERYTHING = {
    "jitter": 1.0,
    "gray": 1.0,
    "sobel": 1.0,
    "solarize": [1.0, 0.0],
    "blur": [1.0, 0.0],
    "noise": 1.0,
    "cutout": 1.0,
}


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_augmentations_of_colours_are_left_out_and_named(channels):
    views = ViewMaker(section(**EVERYTHING), 16, 4, 0, channels)
    assert views.left_out == ["gray", "sobel", "the saturation and hue of jitter"]
    image = torch.randint(0, 256, (channels, 20, 20), dtype=torch.uint8)
    (crops,), (draws,) = views(image, 0, 0)
    out = augment.photometric(crops[:, None], torch.from_numpy(draws)[:, None], views.mean, views.std)
    assert out.shape == (1, 1, channels, 16, 16)
    assert bool(out.isfinite().all())
    assert ViewMaker(section(**EVERYTHING), 16, 4, 0).left_out == []


def test_equal_channels_stay_equal_and_get_what_rgb_gets():
    """Gray pixels as RGB and as five channels are changed alike: no augmentation mixes channels in another way."""
    keys = {
        "jitter": 1.0,
        "jitter_strength": [0.4, 0.4, 0.0, 0.0],
        "solarize": [1.0, 0.0],
        "blur": 0.0,
        "gray": 0.0,
        "flip": 1.0,
    }
    image = torch.randint(0, 256, (1, 20, 20), dtype=torch.uint8)
    found = []
    for channels in (3, 5):
        views = ViewMaker(section(**keys), 16, 4, 0, channels)
        (crops,), (draws,) = views(image.repeat(channels, 1, 1), 0, 0)
        flat = ((0.5,) * channels, (0.25,) * channels)
        found.append(augment.photometric(crops[:, None], torch.from_numpy(draws)[:, None], *flat)[0, 0])
    torch.testing.assert_close(found[1], found[0][:1].expand(5, -1, -1), atol=2e-5, rtol=0)


@pytest.mark.parametrize(("recipe", "words"), [
    ({"views": {"mean": [0.5]}}, "views.mean has 1 numbers, but encoder.channels is 3"),
    ({"encoder": {"channels": 2}, "views": {"std": [1.0, 1.0, 1.0]}}, "encoder.channels=3"),
    ({"encoder": {"channels": 0}}, "encoder.channels"), ({"views": {"mean": [1.0, 2.0, 0.0]}}, "views.mean"),
    ({"views": {"std": [1.0, 0.0, 1.0]}}, "views.std"),
])  # fmt: skip
def test_contradictions_in_a_recipe(recipe, words):
    with pytest.raises(UsageError, match=words):
        validated(Recipe, recipe)
