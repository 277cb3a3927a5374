"""Segmentation: counts against pixels, cuts against a dense solver, the probe on a toy, masks as they lie on disk."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sslkit.probes.segmentation.masks_on_disk import open_folder, read_mask, spread
from torch.nn import functional as F

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import SslkitError
from sslkit.probes.segmentation import patch_probe
from sslkit.probes.segmentation.confusion import confusion
from sslkit.probes.segmentation.normalised_cut import WEAK, affinity, normalised_cut, second_vector
from sslkit.probes.segmentation.patch_probe import PatchCollector, PatchProbe, train_probe
from sslkit.probes.segmentation.patch_tokens import PatchTokens
from sslkit.probes.segmentation.protocols import Settings, find_objects
from sslkit.probes.segmentation.scores import (
    bounds,
    cell_of,
    class_iou,
    count_cells,
    fixed_head,
    jaccard,
    lowest_entropy,
    miou,
    resamples,
)


def random_labels(seed: int, height: int = 11, width: int = 17, classes: int = 4) -> np.ndarray:
    """Blocks of classes with void between them; one class is absent for some seeds."""
    draw = np.random.default_rng(seed)
    return np.repeat(draw.integers(-1, classes, (height, width // 2 + 1)), 2, 1)[:, :width].astype(np.int64)


@given(st.integers(1, 40), st.integers(1, 12))
def test_upsampling_takes_the_patch_below_the_pixels_centre(size, cells):
    expected = [
        min(range(cells), key=lambda c: (not c * size <= (p + 0.5) * cells < (c + 1) * size, c)) for p in range(size)
    ]
    assert cell_of(size, cells).tolist() == expected
    if size % cells == 0:
        whole = F.interpolate(torch.arange(cells)[None, None].float(), size, mode="nearest")[0, 0]
        assert cell_of(size, cells).tolist() == whole.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_jaccard_from_counts_is_jaccard_from_pixels(seed):
    labels, grid = random_labels(seed), (3, 4)
    kept = np.random.default_rng(seed).random((5, 12)) < 0.4
    kept[0], kept[1] = False, True  # an empty prediction and a full one
    objects = [c for c in (1, 2, 3) if (labels == c).any()]
    found = jaccard(kept, count_cells(labels, 4, grid), objects)
    for (g, wanted), m in itertools.product(enumerate(objects), range(5)):
        common = union = 0
        for y, x in np.ndindex(*labels.shape):
            if labels[y, x] < 0:
                continue
            inside = bool(kept[m].reshape(grid)[int((y + 0.5) * 3 / 11), int((x + 0.5) * 4 / 17)])
            common += inside and labels[y, x] == wanted
            union += inside or labels[y, x] == wanted
        assert found[g, m] == common / union
    assert (found[:, 0] == 0).all()


def test_miou_counts_pixel_by_pixel_and_leaves_out_void_and_absent_classes():
    truth, predicted = random_labels(0, classes=5), random_labels(1, classes=5).clip(min=0)
    truth[truth == 3] = -1  # never true, yet predicted: it counts as a miss
    truth[truth == 4], predicted[predicted == 4] = 0, 2  # neither: it counts nowhere
    table, per_class = confusion(truth, predicted, 5), []
    for wanted in range(5):
        hits = sum(t == p == wanted for t, p in zip(truth.flat, predicted.flat, strict=True))
        union = sum(t >= 0 and wanted in (t, p) for t, p in zip(truth.flat, predicted.flat, strict=True))
        per_class.append(hits / union if union else None)
    assert per_class[3] == 0 and per_class[4] is None
    assert np.array_equal(class_iou(table), [np.nan if v is None else v for v in per_class], equal_nan=True)
    assert miou(table) == pytest.approx(sum(v for v in per_class if v is not None) / 4)
    assert miou(np.stack([table, 2 * table])) == pytest.approx([miou(table)] * 2)


class Stub:
    """Photos whose classes are known, and an encoder whose heads look at one class each."""

    classes, objects, binary = ("0", "1", "2"), (1, 2), False

    def __init__(self, labels):
        self.labels, self.names = labels, [str(i) for i in range(len(labels))]

    def read(self, i):
        return torch.zeros(3, *self.labels[i].shape, dtype=torch.uint8), self.labels[i]


def test_each_object_has_its_own_best_head_and_other_choices_do_not_look():
    labels = np.zeros((4, 4), np.int64)
    labels[:2, :2], labels[2:, 2:] = 1, 2
    photos = Stub([labels, np.zeros_like(labels), labels.T.copy()])
    heads = torch.full((3, 4), 1e-4)
    heads[0, 0] = heads[1, 3] = 1  # head 0 sees the one object, head 1 the other
    heads[2] = torch.tensor([0.4, 0.3, 0.2, 0.1])
    seen = type("Seen", (), {"grid": (2, 2), "attention": heads, "keys": torch.eye(4), "patches": None})()
    found = find_objects(photos, lambda image: seen, Settings(("attention",)))  # pyright: ignore[reportArgumentType]
    assert found.rows.tolist() == [0, 2]  # a photo without an object has nothing to find
    assert found.scores["best_head"].tolist() == [1, 1]
    assert found.heads is not None and found.heads[0, :2].tolist() == [0.5, 0.5]  # by itself each finds one of two
    # Head 2 keeps the first two patches, one of them the first object: 1/2 for that, 0 for the other.
    assert found.heads[0, 2] == 0.25
    # The mean of the heads keeps both objects' patches: 1/2 for either.
    assert found.scores["mean_of_heads"].tolist() == [0.5, 0.5]
    assert found.scores["lowest_entropy"].tolist() == [0.5, 0.5]
    assert found.whole.tolist() == [0.25, 0.25] and found.whole_as_one.tolist() == [0.5, 0.5]
    assert "ncut" not in found.scores


def test_a_fixed_head_is_chosen_by_the_other_half():
    scores = np.random.default_rng(0).random((9, 3))
    scores[:, 1] += 1
    assert np.array_equal(fixed_head(scores, 0), scores[:, 1])
    # A head that is best on one photo alone is not chosen for that photo.
    lucky = np.full((8, 2), 0.4)
    lucky[3, 0], lucky[:, 1] = 1.0, 0.41
    assert fixed_head(lucky, 0)[3] == 0.41
    assert fixed_head(scores[:1], 0) == pytest.approx(scores[0].mean())
    assert lowest_entropy(np.array([[1.0, 1, 1], [5, 1, 0], [2, 2, 0]])) == 1


def test_intervals_hold_the_mean_and_shrink_with_photos():
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    draws = resamples(400, 0)
    assert draws.shape == (1000, 400) and (draws.sum(1) == 400).all()
    low, high = bounds(draws @ values / 400)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.15)


def two_blocks(sizes=(7, 13), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features in two directions, shuffled, and which rows are the smaller block."""
    draw = np.random.default_rng(seed)
    which = draw.permutation(np.arange(sum(sizes)) < sizes[0])
    return np.where(which[:, None], [1.0, 0, 0], [0, 1.0, 0]) + 0.05 * draw.normal(size=(len(which), 3)), which


@pytest.mark.parametrize("seed", range(3))
def test_a_cut_separates_two_blocks_and_takes_the_one_that_stands_out(seed):
    features, small = two_blocks(seed=seed)
    assert np.array_equal(normalised_cut(features), small)
    assert np.array_equal(normalised_cut(100 * features), small)  # cosines only


def test_the_vector_of_a_cut_solves_the_generalised_problem():
    features = np.random.default_rng(0).normal(size=(30, 4))
    weights = affinity(features, 0.2)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert all(weights[i, j] == (1.0 if unit[i] @ unit[j] > 0.2 else WEAK) for i, j in np.ndindex(30, 30))
    degrees = np.diag(weights.sum(1))
    values, vectors = scipy.linalg.eigh(degrees - weights, degrees)  # the whole problem as it is written
    y = second_vector(weights)
    assert np.allclose((degrees - weights) @ y, values[1] * degrees @ y, atol=1e-9)
    expected = vectors[:, 1] * np.sign(vectors[0, 1] * y[0])
    assert np.allclose(y / np.abs(y).max(), expected / np.abs(expected).max(), atol=1e-8)


def test_one_patch_cannot_be_cut():
    with pytest.raises(SslkitError, match="larger --image-size"):
        normalised_cut(np.ones((1, 3)))


def toy_patches(images: int, seed: int = 0) -> tuple[list[torch.Tensor], list[np.ndarray]]:
    """Tokens of 3 x 3 patches whose direction is their class, and counts of pixels with a minority in each patch."""
    draw = np.random.default_rng(seed)
    tokens, cells = [], []
    for _ in range(images):
        labels = draw.integers(0, 3, 9)
        tokens.append(torch.from_numpy(np.eye(4)[labels] * 3 + 5 + 0.3 * draw.normal(size=(9, 4))).float())
        count = np.eye(3, dtype=np.int64)[labels].T * 5
        count[0] += 2  # the background is in every patch
        count[:, 0] = 0  # and the first is void
        cells.append(count)
    return tokens, cells


def test_the_probe_learns_what_patches_show():
    collector = PatchCollector(20, 4, seed=0)
    for tokens, cells in zip(*toy_patches(20), strict=True):
        collector.add(tokens, cells)
    train = collector.gathered()
    assert train.features.shape == (20 * 8, 4) and set(train.images) == set(range(20))
    probe = train_probe(train, 3, seed=0)
    assert probe.held_out_miou > 95 and probe.lr in {row["lr"] for row in probe.sweep}
    assert probe.held_out_miou == max(row["held_out_miou"] for row in probe.sweep)
    for tokens, cells in zip(*toy_patches(3, seed=1), strict=True):
        # At the patches' own size the answer is the class of each patch.
        assert np.array_equal(probe.predict(tokens, (3, 3), 3, 3).flatten()[1:], cells.argmax(0)[1:])
    again = train_probe(train, 3, seed=0)
    assert torch.equal(again.weight, probe.weight)
    with pytest.raises(SslkitError, match="all of one class"):
        train_probe(type(train)(train.features, train.labels * 0, train.images), 3, seed=0)


def test_memory_of_the_probe_is_bounded_and_every_photo_has_its_share(monkeypatch):
    def gathered(most: int, floats: int):
        monkeypatch.setattr(patch_probe, "MAX_PATCHES", most)
        monkeypatch.setattr(patch_probe, "MAX_FLOATS", floats)
        collector = PatchCollector(20, 4, seed=0)
        for tokens, cells in zip(*toy_patches(20), strict=True):
            collector.add(tokens, cells)
        found = collector.gathered()
        assert np.bincount(found.images).tolist() == [min(collector.most, 8)] * 20
        assert found.features.base is not None and found.features.base.nbytes <= 4 * max(floats, 20 * 4)
        return collector.most, found

    whole, some = gathered(1000, 4000)[1], gathered(60, 4000)
    assert some[0] == 3 and gathered(60, 20 * 4 * 2)[0] == 2 and gathered(5, 5)[0] == 1
    tokens, cells = toy_patches(20)
    assert np.array_equal(whole.features, np.concatenate([rows[1:].numpy() for rows in tokens]))
    assert np.array_equal(whole.labels, np.concatenate([count.argmax(0)[1:] for count in cells]))
    # What is kept belongs together.
    pairs = {(*row, label) for row, label in zip(whole.features.tolist(), whole.labels.tolist(), strict=True)}
    kept = zip(some[1].features.tolist(), some[1].labels.tolist(), strict=True)
    assert all((*row, label) in pairs for row, label in kept)


def test_logits_are_upsampled_bilinearly_to_pixels():
    probe = PatchProbe(torch.eye(2), torch.zeros(2), 0.1, 0.0, [])
    tokens = torch.tensor([[1.0, 0.0], [0.0, 3.0]])  # between the two centres, logits cross at a quarter of the way
    assert probe.predict(tokens, (1, 2), 2, 8).tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]] * 2


def test_many_patches_are_thinned_alike_in_every_image(monkeypatch):
    monkeypatch.setattr("sslkit.probes.segmentation.patch_probe.MAX_PATCHES", 12)
    collector = PatchCollector(3, 4, seed=0)
    for tokens, cells in zip(*toy_patches(3), strict=True):
        collector.add(tokens, cells)
    assert np.bincount(collector.gathered().images).tolist() == [4, 4, 4]


def test_tokens_are_the_encoders_and_keys_those_of_its_last_block():
    torch.manual_seed(0)
    encoder = Encoder(EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=2, heads=3))
    look = PatchTokens(encoder, 24, torch.device("cpu"), "fp32", IMAGENET_MEAN, IMAGENET_STD)
    image = torch.randint(0, 256, (3, 24, 40), dtype=torch.uint8)
    seen = look(image)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        pixels = ((image / 255 - mean) / std)[None]
        expected = encoder(pixels, attention=True)
        inner = encoder.model.blocks[0](encoder.embed(pixels))
        block = encoder.model.blocks[1]
        keys = block.attn.qkv(block.norm1(inner))[0, 1:, 24:48]
    assert seen.grid == (3, 5) and seen.attention is not None
    assert torch.allclose(seen.patches, expected.patches[0], atol=1e-5)
    assert torch.allclose(seen.attention, expected.attention[0], atol=1e-6)
    assert torch.allclose(seen.keys, keys, atol=1e-5)
    assert not encoder.model.blocks[1].attn.qkv._forward_hooks


def test_an_encoder_without_cls_still_has_patches():
    torch.manual_seed(0)
    encoder = Encoder(EncoderSpec("vit_pwee_patch16_reg1_gap_256", image_size=32, width=24, depth=1, heads=3))
    look = PatchTokens(encoder, 32, torch.device("cpu"), "fp32", IMAGENET_MEAN, IMAGENET_STD)
    seen = look(torch.zeros(3, 40, 40, dtype=torch.uint8))
    assert "no CLS token" in look.no_attention and seen.attention is None and seen.patches.shape == (4, 24)


def put(folder: Path, name: str, pixels: np.ndarray, palette: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels.astype(np.uint8))
    if palette:
        picture = picture.convert("P")
        picture.putpalette([v for i in range(256) for v in (255 - i, i, 7)])
    picture.save(folder / name)


def write_pairs(root: Path, *masks: np.ndarray, palette: bool = False) -> tuple[Path, Path]:
    for i, mask in enumerate(masks):
        put(root / "images", f"p{i}.jpg", np.full((*mask.shape, 3), 40 * i))
        put(root / "masks", f"p{i}.png", mask, palette)
    return root / "images", root / "masks"


BLANK = np.zeros((6, 8), np.uint8)


def with_values(*values: int) -> np.ndarray:
    mask = BLANK.copy()
    mask[0, : len(values)] = values
    return mask


@pytest.mark.parametrize("white", [1, 255])
def test_masks_of_two_values_are_binary(tmp_path, white):
    photos = open_folder(*write_pairs(tmp_path, with_values(white), BLANK))
    assert photos.binary and list(photos.classes) == ["background", "object"] and photos.objects == [1]
    image, labels = photos.read(0)
    assert image.shape == (3, 6, 8) and np.array_equal(labels, with_values(1)) and labels.dtype == np.int64


@pytest.mark.parametrize("palette", [False, True])
def test_masks_of_classes_have_void_and_a_background(tmp_path, palette):
    masks = [with_values(5, 255), with_values(12)]
    photos = open_folder(*write_pairs(tmp_path, *masks, palette=palette))
    assert not photos.binary and list(photos.classes) == ["0", "5", "12"] and photos.objects == [1, 2]
    assert photos.read(0)[1][0, :3].tolist() == [1, -1, 0]
    assert photos.read(1)[1][0, :2].tolist() == [2, 0]
    other = open_folder(tmp_path / "images", tmp_path / "masks", void=5)
    assert list(other.classes) == ["0", "12", "255"] and other.read(0)[1][0, :3].tolist() == [-1, 2, 0]
    assert other.digest == photos.digest


def test_noisy_masks_are_cut_in_the_middle_when_asked(tmp_path):
    folders = write_pairs(tmp_path, with_values(3, 120, 131, 252))
    assert not open_folder(*folders).binary
    noisy = open_folder(*folders, binary=True)
    assert noisy.binary and noisy.read(0)[1][0, :5].tolist() == [0, 0, 1, 1, 0]


def test_pairs_go_by_name_and_the_rest_is_left_out(tmp_path):
    images, masks = write_pairs(tmp_path, *[with_values(255)] * 5)
    put(images / "deep", "p9.png", np.zeros((6, 8, 3)))
    put(masks / "deep", "p9.png", with_values(255))
    (masks / "p2.png").unlink()
    (images / "p4.jpg").unlink()
    photos = open_folder(images, masks)
    assert list(photos.names) == ["deep/p9", "p0", "p1", "p3"]
    assert photos.remarks == ["1 photos have no mask and are left out", "1 masks have no photo and are left out"]
    assert list(open_folder(images, masks, count=2).names) == ["deep/p9", "p3"]
    assert spread(3, 5) == [0, 1, 2]


def test_what_is_wrong_with_masks_is_said(tmp_path):
    images, masks = write_pairs(tmp_path / "a", with_values(255))
    put(masks, "p0.png", np.full((6, 9), 255))
    for look in (lambda photos: photos.read(0), lambda photos: photos.check()):
        with pytest.raises(SslkitError, match=r"p0\.png has 6 x 9 pixels, its image 6 x 8"):
            look(open_folder(images, masks))
    turned = Image.new("RGB", (6, 9))  # a camera held upright: its EXIF says how to turn the picture
    turned.getexif()[0x0112] = 6
    turned.save(images / "p0.jpg", exif=turned.getexif())
    open_folder(images, masks).check()
    assert open_folder(images, masks).read(0)[0].shape == (3, 6, 9)
    put(images, "p0.jpg", np.zeros((6, 8, 3)))
    put(masks, "p0.png", np.dstack([BLANK, BLANK + 9, BLANK]))
    with pytest.raises(SslkitError, match=r"p0\.png is in colour"):
        open_folder(images, masks)
    put(masks, "p0.png", np.dstack([with_values(9)] * 3))  # grey, saved as colour
    assert np.array_equal(read_mask(masks / "p0.png"), with_values(9))
    put(masks, "p0.png", BLANK)
    with pytest.raises(SslkitError, match="has an object"):
        open_folder(images, masks)
    (masks / "p0.png").write_bytes(b"no picture")
    with pytest.raises(SslkitError, match="is no mask that can be read"):
        open_folder(images, masks)
    (masks / "p0.png").rename(masks / "q0.png")
    with pytest.raises(SslkitError, match=r"no photo in .* has a mask of its name .*p0.jpg and q0.png"):
        open_folder(images, masks)
    with pytest.raises(SslkitError, match="--masks takes one"):
        open_folder(images, tmp_path / "nowhere")


def test_patches_that_are_all_joined_are_not_cut_anywhere():
    assert normalised_cut(np.ones((9, 4)) + np.arange(9)[:, None] * 1e-3).all()
