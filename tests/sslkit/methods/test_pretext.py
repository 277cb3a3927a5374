"""Rotation, jigsaw and deep clustering: that the question asked of the encoder is the one the paper asks."""

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sslkit.data.batch import Batch
from sslkit.data.loader import DecodedImages, ViewBatches
from sslkit.data.views import ViewMaker
from sslkit.errors import UsageError
from sslkit.methods.base import Classifying, DataFacts, accuracy, augmented
from sslkit.methods.deep_cluster import (
    DeepCluster,
    cluster,
    cluster_count,
    fill_empty,
    inverse_sizes,
    weighted_cross_entropy,
    whitened,
)
from sslkit.methods.jigsaw import Jigsaw, cut_tiles, normalised, permutation_set, put_together, tile_size
from sslkit.methods.rotation import Rotation, rotated
from sslkit.methods.supervised import Supervised
from sslkit.recipe.schema import resolve
from sslkit.schedules import Moment
from stages.inputs.recipes import find

METHODS = {"rotation": Rotation, "jigsaw": Jigsaw, "deep-cluster": DeepCluster, "supervised": Supervised}
SMALL = {"jigsaw": ["method.permutations=10", "method.hidden=32"], "deep-cluster": ["method.clusters=4"]}
FACTS = DataFacts(samples=80, classes=3)
FIRST = Moment(step=0, steps_per_epoch=10, epochs=10)
AT = Moment(step=3, steps_per_epoch=10, epochs=10)
QUICK = ["--device", "cpu", "--precision", "fp32", "--workers", 0]
RESNET = ["encoder.arch=test_resnet", *(f"encoder.{key}=null" for key in ("patch_size", "width", "depth", "heads"))]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def build(tiny_scale):
    def make(name: str, *overrides: str) -> Classifying:
        return METHODS[name](resolve([find(name), tiny_scale], [*SMALL.get(name, []), *overrides]), FACTS)

    return make


def batch_of(method: Classifying, count=6) -> Batch:
    pixels = torch.randint(0, 256, (count, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    views = ViewMaker(method.recipe.views, 32, 8, 0)
    return ViewBatches(DecodedImages(pixels, np.arange(count) % 3), views)[0, np.arange(count)]


def planted(clusters=4, each=30) -> tuple[np.ndarray, np.ndarray]:
    """Well-separated blobs, and which blob each row belongs to; whitening makes their noise as loud as the rest."""
    draw = np.random.default_rng(0)
    truth = draw.permutation(np.repeat(np.arange(clusters), each))
    return (10 * np.eye(clusters)[truth] + 0.1 * draw.standard_normal((len(truth), clusters))).astype(np.float32), truth


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("arch", ["vit", "resnet"])
def test_a_repeated_batch_is_learnt_and_nothing_is_left_out(build, name, arch):
    off = ["method.mixup=0", "method.cutmix=0"] if name == "supervised" else []
    method = build(name, *off, *(RESNET if arch == "resnet" else []))
    batch = batch_of(method, 12 if name == "deep-cluster" else 6)
    method.begin_epoch(FIRST, lambda: torch.randn(80, 8))
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(8):
        found = method(batch, AT)
        optimizer.zero_grad()
        found.loss.backward()
        losses.append(float(found.metrics["loss"]))
        without = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert not without, "a parameter that gets no gradient breaks DistributedDataParallel"
        assert {"loss", "accuracy", "feature_std"} <= set(found.metrics)
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    assert method.exported() == (method.encoder, "student")


@pytest.mark.parametrize("name", METHODS)
def test_the_command_line_trains_it(name, sslkit, shapes_run, tiny_scale, tmp_path):
    words = ["--data", shapes_run, "--recipe", name, "--recipe", tiny_scale, *QUICK, "--set", "optim.warmup_epochs=0"]
    for setting in SMALL.get(name, []):
        words += ["--set", setting]
    code, _, err = sslkit("pretrain", tmp_path / "run", *words)
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "run" / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    assert all(0 <= row["accuracy"] <= 100 and np.isfinite(row["loss"]) for row in rows)
    assert (tmp_path / "run" / "pretrain" / "views.png").exists()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mask={strategy: random}", "takes no mask: --set mask=null"),
        ("teacher={momentum: [0.9, 1.0]}", "takes no teacher"),
        ("heads={prototypes: {kind: dino}}", "takes no heads"),
        ("views.local.count=2", "takes no local crops: --set views.local.count=0"),
    ],
)
def test_what_a_method_has_no_use_for_is_refused(build, name, setting, message):
    with pytest.raises(UsageError, match=message):
        build(name, setting)


def test_objectives_are_refused(build):
    with pytest.raises(UsageError, match="method rotation takes no objectives"):
        build("rotation", "heads.p={kind: dino}", "objectives.dino.head=p")


def test_accuracy_counts_known_targets_only():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 9.0]])
    assert accuracy(logits, torch.tensor([0, 1, 1, -1])) == pytest.approx(200 / 3)
    assert accuracy(logits, torch.full((4,), -1)) == 0


def test_what_is_drawn_belongs_to_the_sample_and_the_step(build):
    """The same samples in another order have the same loss; in another step they lose other branches."""
    for name in ("rotation", "jigsaw"):
        method = build(name)
        batch = batch_of(method)
        flip = lambda x: x.flip(1)  # noqa: E731
        other = Batch(
            batch.samples.flip(0), batch.labels.flip(0), [*map(flip, batch.crops)], [flip(batch.photometric[0])]
        )
        torch.testing.assert_close(method(batch, AT).loss, method(other, AT).loss)
        assert method(batch, AT).loss != method(batch, FIRST).loss


# Rotation.


def test_turned_back_by_its_label_every_image_is_upright():
    images = torch.rand(2, 3, 3, 8, 8)
    turned, angles = rotated(images)
    assert turned.shape == (8, 3, 3, 8, 8)
    assert angles.shape == (8, 3)
    for view in range(8):
        for index in range(3):
            back = turned[view, index].rot90(-int(angles[view, index]), (-2, -1))
            assert torch.equal(back, images[view % 2, index])
    assert sorted(angles[::2, 0].tolist()) == [0, 1, 2, 3]


def test_rotation_says_the_answers_and_refuses_to_turn_twice(build):
    method = build("rotation")
    shown = method.preview(batch_of(method), AT)
    assert shown.pictures["rotated"].shape == (4, 6, 3, 32, 32)
    assert shown.captions[0] == "0, 90, 180, 270 degrees"
    with pytest.raises(UsageError, match=r"views\.augment\.rotate=0"):
        build("rotation", "views.augment.rotate=0.5")


# Jigsaw.


def distances(orders: np.ndarray) -> list[int]:
    return [int((a != b).sum()) for a, b in combinations(orders, 2)]


def test_permutations_are_distinct_and_further_apart_than_chance():
    orders = permutation_set(100, seed=0)
    assert orders.dtype == np.int64
    assert len({tuple(o) for o in orders}) == 100
    assert (np.sort(orders, 1) == np.arange(9)).all()
    draw = np.random.default_rng(0)
    chance = distances(np.stack([draw.permutation(9) for _ in range(100)]))
    assert min(distances(orders)) >= 6 > min(chance)
    assert np.mean(distances(orders)) > np.mean(chance)
    assert (permutation_set(5, 0) == orders[:5]).all()
    assert (permutation_set(5, 1) != orders[:5]).any()


def test_nine_permutations_can_differ_everywhere():
    assert min(distances(permutation_set(9, seed=3))) == 9


@pytest.mark.parametrize(
    ("crop", "patch", "tile"), [(32, 4, 8), (40, 8, 8), (224, 16, 64), (224, 14, 70), (225, 0, 64)]
)
def test_a_tile_is_whole_patches_and_leaves_a_gap(crop, patch, tile):
    assert tile_size(crop, patch) == tile < crop // 3


def test_tiles_come_from_their_own_cell_at_their_own_place():
    """Pixels that hold their own row and column say where each tile was cut."""
    cell, tile, size = 10, 8, 32
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    images = torch.stack([row, column, row * 0]).float().expand(2, 3, 3, size, size) + torch.zeros(2, 3, 1, 1, 1)
    draw = torch.Generator().manual_seed(0)
    cells = torch.stack([torch.randperm(9, generator=draw) for _ in range(6)], 1).view(9, 2, 3)
    offsets = torch.randint(0, cell - tile + 1, (9, 2, 3, 2), generator=draw)
    tiles = cut_tiles(images, cells, offsets, cell, tile)
    assert tiles.shape == (9, 2, 3, 3, tile, tile)
    for place, view, index in np.ndindex(9, 2, 3):
        number, (down, right) = int(cells[place, view, index]), offsets[place, view, index].tolist()
        top, left = 1 + number // 3 * cell + down, 1 + number % 3 * cell + right
        expected = images[view, index, :, top : top + tile, left : left + tile]
        assert torch.equal(tiles[place, view, index], expected)


def test_each_tile_is_normalised_by_itself_and_a_flat_one_stays_finite():
    tiles = torch.rand(9, 1, 2, 3, 8, 8) * torch.arange(1, 10).view(-1, 1, 1, 1, 1, 1) + 5
    tiles[4] = 0.5
    out = normalised(tiles)
    mean, std = out.mean((-2, -1)), out.std((-2, -1), correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
    torch.testing.assert_close(std[:4], torch.ones_like(std[:4]), atol=1e-3, rtol=0)
    assert (out[4] == 0).all()


def test_unshuffled_by_its_label_a_puzzle_is_the_image(build):
    method = build("jigsaw", "views.global.size=48", "method.tile=16", "views.augment.gray=0")
    assert method.cell == method.tile == 16  # no gaps: the tiles cover the crop
    batch = batch_of(method)
    crops = augmented(batch)[0]
    puzzles, seen = method._puzzles(crops, batch, AT)
    order = torch.from_numpy(method.orders)[puzzles]  # (V, B, 9)
    for index in range(6):
        places = order[0, index].argsort()
        whole = put_together(seen[places, 0, index])
        cells = crops[0, index].unfold(1, 16, 16).unfold(2, 16, 16).permute(1, 2, 0, 3, 4).flatten(0, 1)
        torch.testing.assert_close(whole, put_together(normalised(cells)))
    assert len(set(puzzles.flatten().tolist())) > 1
    again, other = method._puzzles(crops, batch, AT), method._puzzles(crops, batch, FIRST)
    assert torch.equal(again[1], seen)
    assert not torch.equal(other[1], seen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["method.tile=12"], "multiple of the patch size 8"),
        (["method.tile=16"], "fit the 10 pixels of a cell"),
        (["views.global.size=24"], "views.global.size=32"),
    ],
)
def test_tiles_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(UsageError, match=message):
        build("jigsaw", *settings)


# Deep clustering.


def test_separated_blobs_become_pure_clusters():
    rows, truth = planted()
    found = cluster(rows, 4, seed=0, epoch=0)
    assert len(set(zip(found.tolist(), truth.tolist(), strict=True))) == 4
    assert len(set(found.tolist())) == 4
    assert (cluster(rows, 4, seed=0, epoch=0) == found).all()


def test_whitened_components_have_variance_one_before_the_rows_are_scaled():
    draw = np.random.default_rng(0)
    features = (draw.standard_normal((500, 6)) @ draw.standard_normal((6, 6)) + 3).astype(np.float32)
    rows = whitened(features)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    # Whitening undoes any linear map: it only turns what another map makes of the same rows.
    other = whitened((features @ draw.standard_normal((6, 6))).astype(np.float32))
    np.testing.assert_allclose(rows @ rows.T, other @ other.T, atol=2e-3)
    assert np.isfinite(whitened(np.ones((5, 3), np.float32))).all()  # collapsed features
    assert whitened(draw.standard_normal((4, 300)).astype(np.float32)).shape == (4, 256)


@pytest.mark.parametrize("alike", [False, True])
def test_empty_clusters_get_a_part_of_a_large_one(alike):
    draw = np.random.default_rng(0)
    rows = np.zeros((20, 3)) if alike else draw.standard_normal((20, 3))
    before = np.array([0] * 15 + [3] * 4 + [5])
    after = fill_empty(rows, before, 7, draw)
    assert set(after.tolist()) == set(range(7))
    assert (before == np.array([0] * 15 + [3] * 4 + [5])).all()
    assert (after[after != before] != before[after != before]).all()
    assert set(after[15:]) == {3, 5}
    full = np.arange(20) % 7
    assert (fill_empty(rows, full, 7, draw) == full).all()
    assert set(fill_empty(rows, before, 20, draw).tolist()) == set(range(20))


def test_an_image_weighs_the_inverse_of_its_cluster():
    sizes = np.array([6, 0, 2])
    weights = inverse_sizes(sizes)
    assert weights.tolist() == pytest.approx([8 / (2 * 6), 0, 8 / (2 * 2)])
    assert (weights * sizes).sum() == pytest.approx(8)  # mean weight 1
    logits, targets = torch.randn(2, 4, 3), torch.tensor([[0, 2, -1, 0], [2, 2, 0, -1]])
    total = 0.0
    for view, index in np.ndindex(2, 4):
        target = int(targets[view, index])
        if target >= 0:
            total -= float(weights[target]) * float(F.log_softmax(logits[view, index], 0)[target])
    found = weighted_cross_entropy(logits, targets, torch.from_numpy(weights))
    assert float(found) == pytest.approx(total / 8, rel=1e-5)


def test_an_epoch_gives_clusters_and_a_new_classifier_that_a_resume_keeps(build):
    features, _ = planted(4, 20)
    method = build("deep-cluster", "train.seed=1")  # at seed 0 k-means ends in a local optimum
    batch = batch_of(method)
    # as --dry-run asks
    assert (method.assignments == -1).all()
    assert method(batch, FIRST).metrics["loss"] == 0
    assert method.preview(batch, FIRST).captions[0] == "no cluster before training"
    before = method.classifier.weight.clone()
    fresh = list(method.begin_epoch(FIRST, lambda: torch.from_numpy(features)))
    assert {id(p) for p in fresh} == {id(p) for p in method.classifier.parameters()}
    assert not torch.equal(method.classifier.weight, before)
    assert (method.classifier.bias == 0).all()
    shares = method.assignments.bincount(minlength=4) / 80
    assert (shares > 0).all()
    assert float(method.clusters_in_use) == pytest.approx(float(torch.prod(shares**-shares)))
    assert "nmi" not in method(batch, AT).metrics
    resumed = build("deep-cluster", "train.seed=1")
    resumed.load_state_dict(method.state_dict())
    assert torch.equal(resumed.assignments, method.assignments)
    assert torch.equal(resumed(batch, AT).loss, method(batch, AT).loss)
    assert method.preview(batch, AT).captions[0] == f"cluster {int(method.assignments[0])} of 4"
    # The next epoch: the same blobs under other numbers agree, other features do not; another classifier.
    first = method.classifier.weight.clone()
    second = Moment(step=10, steps_per_epoch=10, epochs=10)
    method.begin_epoch(second, lambda: torch.from_numpy(features))
    assert not torch.equal(method.classifier.weight, first)
    assert 0.8 < float(method(batch, second).metrics["nmi"]) <= 1 + 1e-6
    method.begin_epoch(second, lambda: torch.from_numpy(features[::-1].copy()))
    assert float(method.nmi) < 0.5


def test_the_number_of_clusters_follows_the_number_of_images(tiny_scale):
    assert [cluster_count(n) for n in (1_281_167, 50_000, 10_000, 80, 0)] == [10009, 390, 100, 8, 2]
    recipe = resolve([find("deep-cluster"), tiny_scale], ["method.clusters=90"])
    with pytest.raises(UsageError, match=r"only 80 training images: --set method\.clusters=8"):
        DeepCluster(recipe, DataFacts(samples=80))
