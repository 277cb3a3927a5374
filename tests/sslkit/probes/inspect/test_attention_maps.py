"""Attention maps: photos of any size, all requested layers and queries, and models without attention."""

from dataclasses import replace

import pytest
import torch

from sslkit.encoder.attention import threshold
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.input_size import input_size
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError
from sslkit.probes.inspect.attention_maps import AttentionReader, first_percent, patch_at, read_images, read_kept


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    spec = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=4, width=48, depth=2, heads=3)
    return Encoder(spec).eval()


def photo(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def reader(encoder: Encoder, size: int = 32) -> AttentionReader:
    return AttentionReader(FrozenEncoder(encoder.eval(), size, torch.device("cpu"), "fp32"))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (50, 100), (3000, 20), (1, 1)])
def test_photos_of_any_size(encoder: Encoder, height: int, width: int) -> None:
    maps = reader(encoder).main_maps(photo(height, width))
    rows, columns = input_size(height, width, 32, 4)
    assert maps.shape == (3, rows // 4, columns // 4)
    assert (maps.flatten(1).sum(1) < 1).all()


def test_models_without_cls_attention_are_one_line() -> None:
    pooled = Encoder(EncoderSpec("vit_base_patch16_gap_224", image_size=32, width=48, depth=1, heads=3)).eval()
    with pytest.raises(SslkitError, match=r"no CLS token.*a ViT with a CLS token") as caught:
        reader(pooled).main_maps(photo(32, 32))
    assert caught.value.exit_code == 1
    with pytest.raises(SslkitError, match="resnet10t is not a ViT") as caught:
        reader(Encoder(EncoderSpec("resnet10t"))).main_maps(photo(32, 32))
    assert caught.value.exit_code == 1


def test_weights_that_are_not_finite_are_one_line(encoder: Encoder) -> None:
    broken = Encoder(encoder.spec).eval()
    with torch.no_grad():
        broken.model.cls_token.fill_(float("nan"))
    with pytest.raises(SslkitError, match="not finite"):
        reader(broken).main_maps(photo(32, 32))


def ties() -> torch.Tensor:
    """(3, 4, 6) maps with ties, empty patches, and a map with all its mass on one patch."""
    maps = torch.randint(0, 4, (3, 4, 6), generator=torch.Generator().manual_seed(0)).float()
    maps[1] = 1
    maps[2] = 0
    maps[2, 1, 2] = 7
    return maps / 50


def test_first_percent_gives_the_mask_at_every_percent():
    maps = torch.cat([ties().flatten(1), torch.rand(4, 24) ** 3])
    steps = first_percent(maps)
    for percent in range(1, 101):
        assert torch.equal(steps <= percent, threshold(maps, percent / 100))
    assert steps.dtype == torch.uint8
    assert steps.max() == 101  # patches without mass are never kept


@pytest.mark.parametrize(
    ("query", "patch"), [((0, 0), 0), ((1, 1), 11), ((0.5, 0.5), 6), ((0.99, 0), 3), ((0, 0.34), 4)]
)
def test_a_query_is_the_patch_at_its_position(query, patch):
    assert patch_at(query, (3, 4)) == patch


def test_a_timeline_masks_by_cls_attention_of_the_last_layer():
    torch.manual_seed(0)
    spec = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3)
    kept = [(float(epoch), Encoder(spec)) for epoch in range(2)]
    own = replace(reader(Encoder(spec)), layers=(1,), queries=((0.0, 0.0),))
    image = photo(32, 32)
    history = read_kept(iter(kept), [image], own, masking=True)
    assert [each.epochs for each in history] == [0, 1]
    for (_, encoder), each in zip(kept, history, strict=True):
        assert torch.equal(each.means[0], own.of(encoder).main_maps(image).mean(0))
        by_cls = reader(encoder).main_maps(image).mean(0)
        assert torch.equal(each.masking[0], by_cls)
        assert not torch.allclose(by_cls, each.means[0])
    assert read_kept(iter(kept), [image], own)[0].masking == []


def test_all_requested_maps_of_an_image_are_read(encoder: Encoder) -> None:
    asked = replace(reader(encoder), layers=(1, 2), queries=((0.5, 0.5), None), rollout=True)
    other = replace(reader(Encoder(encoder.spec)), layers=(2,))
    (seen,) = read_images([("one", photo(40, 60))], asked, masking=True, other=other)
    assert [(each.layer, each.query) for each in seen.every] == [
        (1, (0.5, 0.5)), (1, None), (2, (0.5, 0.5)), (2, None), (None, (0.5, 0.5)), (None, None)
    ]  # fmt: skip
    assert seen.main is seen.every[2]
    assert seen.resized.shape == (3, 32, 48)
    assert seen.masking is not None
    assert torch.equal(seen.masking, seen.every[3].maps.mean(0))
    assert seen.other is not None
    assert torch.equal(seen.other, other.main_maps(photo(40, 60)))
