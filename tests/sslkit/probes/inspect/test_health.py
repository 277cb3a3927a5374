"""`sslkit health`: heads against loops, features against their definitions, and the stage's contract."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sslkit.data import shards
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.data.shards import open_split
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.probes.inspect import health as probe
from sslkit.probes.inspect.health import (
    STANDARD_VIEWS,
    AttentionMeter,
    Sample,
    attention_distance,
    attention_entropy,
    pair_views,
    patch_distances,
    representation,
)
from sslkit.recipe.sections import ViewsSection
from stages.contract.layout import Run

SIZES = {"image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "heads": 3}
ARCHS = ("vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224")


def encoder(arch: str = ARCHS[0]) -> Encoder:
    torch.manual_seed(0)
    made = Encoder(EncoderSpec(arch, **SIZES)).eval()
    for block in made.model.blocks:  # sharp attention: logits at initialisation are all near 0
        nn.init.normal_(block.attn.qkv.weight, std=0.5)
    return made


def sample(
    shapes_run: Path, model: Encoder, section: ViewsSection = STANDARD_VIEWS, rows: int = 6, **changes
) -> Sample:
    split = open_split(Run(shapes_run).data, "val")
    facts = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "device": torch.device("cpu"), "precision": "fp32", **changes}
    return Sample(split, np.arange(0, 2 * rows, 2), pair_views(section, model, 0), **facts)


def test_distances_between_patches_are_those_of_their_centres_in_pixels():
    found = patch_distances((2, 3), 8)
    for i in range(6):
        for j in range(6):
            assert found[i, j] == pytest.approx(8 * math.hypot(i // 3 - j // 3, i % 3 - j % 3))


def test_attention_that_is_alike_everywhere_and_attention_to_itself():
    distances = patch_distances((4, 5), 16)
    alike, itself = torch.full((20, 20), 1 / 20), torch.eye(20)
    assert attention_distance(alike, distances) == pytest.approx(distances.mean().item())
    assert attention_entropy(alike) == pytest.approx(math.log(20))
    assert attention_distance(itself, distances) == 0 and attention_entropy(itself) == 0


def naive_heads(model: Encoder, images: torch.Tensor) -> dict[str, np.ndarray]:
    """Every block by hand, image by image, head by head, query by query."""
    found = {"distance": np.zeros((2, 3)), "entropy": np.zeros((2, 3))}
    side, prefix = 4, model.prefix
    with torch.no_grad():
        x = model.embed(images)
        for layer, block in enumerate(model.model.blocks):
            tokens, attn = block.norm1(x), block.attn
            q, k, _ = attn.qkv(tokens).chunk(3, -1)
            for image in range(len(images)):
                for head in range(3):
                    some = slice(8 * head, 8 * head + 8)
                    for query in range(16):
                        logits = [
                            float(q[image, prefix + query, some] @ k[image, prefix + key, some]) / math.sqrt(8)
                            for key in range(16)
                        ]
                        total = sum(math.exp(logit) for logit in logits)
                        for key, logit in enumerate(logits):
                            p = math.exp(logit) / total
                            away = 8 * math.hypot(query // side - key // side, query % side - key % side)
                            found["distance"][layer, head] += p * away / (16 * len(images))
                            found["entropy"][layer, head] -= p * math.log(p) / (16 * len(images))
            x = block(x)
    return found


@pytest.mark.parametrize("arch", ARCHS)  # CLS alone, CLS with registers, neither
def test_heads_agree_with_loops_whatever_the_chunks(arch, monkeypatch):
    model, images = encoder(arch), torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert model.model.blocks[0].attn.qkv.out_features == 72 and model.grid(32, 32) == (4, 4)
    wanted = naive_heads(model, images)
    for floats in (1, 1 << 25):
        monkeypatch.setattr(probe, "ATTENTION_FLOATS", floats)
        with AttentionMeter(model) as meter, torch.no_grad():
            model(images[:2])
            model(images[2:])
        found = meter.per_head()
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4)
            assert values.std() > 0.01
    # What was watched is left as it was.
    assert not any(block.attn._forward_pre_hooks for block in model.model.blocks)


@pytest.mark.parametrize(
    ("arch", "why"),
    [("resnet18", "not a ViT"), ("vit_dwee_patch16_reg1_gap_256", "DiffAttention"), (ARCHS[0], "")],
)
def test_models_whose_heads_cannot_be_read_say_why(arch, why):
    found = Encoder(EncoderSpec(arch, image_size=32)).why_no_attention(cls=False)
    assert why in found and bool(found) == bool(why)


def test_measures_of_features_are_those_of_evaluation_crops_and_of_pairs_of_views(shapes_run, monkeypatch):
    model = encoder()
    images = sample(shapes_run, model)
    seen: list[torch.Tensor] = []
    features = probe._features
    monkeypatch.setattr(probe, "_features", lambda *words: seen.append(features(*words)) or seen[-1])
    found = representation(model, images)
    whole, first, second = seen
    assert whole.shape == first.shape == second.shape == (6, 24)
    assert found["alignment"] == pytest.approx(probe.alignment(first, second)) and found["alignment"] > 0.01
    assert found["uniformity"] == probe.uniformity(whole)
    assert found["rankme"] == probe.effective_rank(whole)
    unit = torch.nn.functional.normalize(whole)
    assert found["feature_std"] == pytest.approx((unit.std(0, correction=0).mean() * 24**0.5).item())


def test_views_depend_on_image_and_seed_alone(shapes_run):
    model = encoder()
    whole = sample(shapes_run, model)
    (together,) = probe._pairs(whole, "")
    alone = Sample(**{**vars(whole), "rows": whole.rows[3:4]})
    (one,) = probe._pairs(alone, "")
    assert together.shape == (2, 6, 3, 32, 32)
    assert torch.equal(one[:, 0], together[:, 3]) and not torch.allclose(one[0], one[1])
    other = Sample(**{**vars(alone), "views": pair_views(STANDARD_VIEWS, model, 1)})
    assert not torch.allclose(next(probe._pairs(other, "")), one)


def test_recipes_of_one_view_give_a_pair_and_no_augmentation_gives_alignment_0(shapes_run):
    model = encoder()
    still = dict.fromkeys(("flip", "jitter", "gray", "blur", "solarize"), 0.0)
    section = ViewsSection.model_validate({"global": {"count": 1, "scale": (1.0, 1.0)}, "augment": still})
    images = sample(shapes_run, model, section)
    assert representation(model, images)["alignment"] == pytest.approx(0, abs=1e-9)
    moving = section.model_copy(update={"augment": STANDARD_VIEWS.augment})
    (pair,) = probe._pairs(sample(shapes_run, model, moving), "")
    assert pair.shape == (2, 6, 3, 32, 32) and not torch.allclose(pair[0], pair[1])


def test_views_are_normalised_as_the_encoder_was_trained(shapes_run):
    model = encoder()
    (usual,) = probe._pairs(sample(shapes_run, model), "")
    (other,) = probe._pairs(sample(shapes_run, model, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1)), "")
    pixels = usual[0, 0] * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]
    for channel, (mean, std) in enumerate([(0.5, 0.5), (0.4, 0.2), (0.3, 0.1)]):
        torch.testing.assert_close(other[0, 0, channel], (pixels[channel] - mean) / std)


def test_fewer_images_lie_inside_more():
    some, more = probe.chosen(50, 10, 0), probe.chosen(50, 30, 0)
    assert set(some) < set(more) and len(more) == 30 and list(more) == sorted(more)
    assert list(probe.chosen(5, 30, 0)) == [0, 1, 2, 3, 4] and list(some) != list(probe.chosen(50, 10, 1))


@pytest.fixture
def run(trained_run, tmp_path) -> Run:
    shutil.copytree(trained_run, tmp_path / "run")
    return Run(tmp_path / "run")


COMMON = ("--count", "16", "--timeline-count", "8", "--device", "cpu", "--precision", "fp32")


def test_the_stage_writes_numbers_curves_and_pictures_and_is_up_to_date(run, shapes_run, sslkit):
    words = ("health", run.path, "--data", shapes_run, *COMMON)
    code, out, err = sslkit(*words, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results == json.loads(run.results("health").read_text())
    distance, entropy = (np.array(results["per_head"][name]) for name in ("distance", "entropy"))
    assert distance.shape == entropy.shape == (2, 3)
    assert (entropy > 0).all() and (entropy <= results["ln_patches"] + 1e-6).all()
    assert results["ln_patches"] == pytest.approx(math.log(16))
    assert (results["images"], results["timeline_images"], results["width"]) == (16, 8, 24)
    timeline = results["timeline"]
    assert [row["epoch"] for row in timeline] == [epoch for epoch, _ in run.kept_encoders()]
    assert timeline[0]["rankme"] != timeline[-1]["rankme"]
    for picture in results["pictures"]:
        assert (run.folder("health") / picture["file"]).read_bytes()[1:4] == b"PNG" and len(picture["alt"]) > 40
    assert len(results["pictures"]) == 3
    code, out, err = sslkit(*words)
    assert code == 0 and "up to date" in err and "RankMe" in out and "layer" in out
    code, _, err = sslkit(*words, "--seed", 1)
    assert code == 1 and "--force redoes it" in err
    # The last encoder kept is the run's own: measured on the same images, it gives the same numbers.
    code, out, _ = sslkit(*words[:3], shapes_run, "--count", 8, *COMMON[2:], "--json", "--force")
    assert code == 0
    again = json.loads(out)
    assert {key: again[key] for key in probe_keys(again)} == probe_keys(again["timeline"][-1])


def test_a_single_image_is_refused_and_older_results_stay(run, shapes_run, sslkit, monkeypatch):
    honest = shards.open_split

    def one(folder: Path, name: str) -> shards.Split:
        split = honest(folder, name)
        split.labels = split.labels[:1]
        return split

    monkeypatch.setattr(shards, "open_split", one)
    run.folder("health").mkdir()
    (run.folder("health") / "older").write_text("")
    code, _, err = sslkit("health", run.path, "--data", shapes_run, *COMMON, "--force")
    assert code == 1 and "needs 2 or more" in err and err.count("\n") == 1
    assert [path.name for path in run.folder("health").iterdir()] == ["older"]


def probe_keys(row: dict) -> dict:
    return {key: row[key] for key in ("rankme", "alignment", "uniformity", "feature_std")}


def test_nothing_kept_and_no_vit_are_told_and_left_out(run, shapes_run, sslkit):
    shutil.rmtree(run.pretrain / "kept")
    code, out, err = sslkit("health", run.path, "--data", shapes_run, *COMMON, "--views", "recipe", "--json")
    results = json.loads(out)
    assert code == 0 and results["timeline"] == [] and "--keep-every" in err and results["views"] == "recipe"
    assert run.results("health:recipe-views").exists() and not run.results("health").exists()
    words = ("--weights", "random", "--arch", "resnet18", "--data", shapes_run, "--json")
    code, out, err = sslkit("health", run.path.parent / "resnet", *words, *COMMON)
    results = json.loads(out)
    assert code == 0 and "not a ViT" in err and "keep-every" not in err
    assert "per_head" not in results and results["pictures"] == [] and results["width"] == 512


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--weights", "pixels"), "no encoder"),
        (("--views", "odd"), "standard or recipe"),
        ((), "pretrain"),
    ],
)
def test_what_cannot_be_measured_is_one_line(tmp_path, shapes_run, sslkit, words, said):
    code, _, err = sslkit("health", tmp_path / "new", "--data", shapes_run, *words)
    assert code in (1, 2) and said in err and err.count("\n") == 1
    assert not (tmp_path / "new" / "health").exists()
