"""Fine-tuning as a method: what moves and how fast, what is averaged, and the models it works for."""

import numpy as np
import pytest
import torch
from torch import nn

from sslkit.data.loader import batches
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.data.order import Order
from sslkit.data.views import ViewMaker
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.errors import UsageError
from sslkit.methods.base import DataFacts
from sslkit.optimizers import base as optim
from sslkit.probes.finetuning.finetune import FineTune, momentum, recipe_for, with_usual_statistics
from sslkit.probes.finetuning.prediction import LabelledImages
from sslkit.probes.finetuning.settings import FinetuneSettings
from sslkit.schedules import Moment
from sslkit.weights import read, write

CPU = torch.device("cpu")
SPEC = EncoderSpec("vit_tiny_patch16_224", 32, 8, width=24, depth=3, heads=3)


def method(settings: FinetuneSettings, start: Encoder | None = None, samples: int = 16) -> FineTune:
    torch.manual_seed(0)
    start = start or Encoder(SPEC)
    recipe = recipe_for(settings, start.spec, settings.lr[0], samples, "fp32", 0)
    return FineTune(recipe, DataFacts(samples, 3), start, settings)


def test_layers_decay_as_in_the_papers():
    tuned = method(FinetuneSettings(layer_decay=0.5))
    factors = tuned.rate_factors()
    # Naively, by the names that timm gives: embeddings four layers below the norm, then three blocks.
    for name, parameter in tuned.encoder.model.named_parameters():
        power = {
            "cls_token": 4,
            "pos_embed": 4,
            "patch_embed": 4,
            "blocks.0": 3,
            "blocks.1": 2,
            "blocks.2": 1,
            "norm": 0,
        }
        depth = next(value for prefix, value in power.items() if name.startswith(prefix))
        assert factors[parameter] == 0.5**depth, name
    optimizer = optim.build(tuned, tuned.recipe.optim, factors)
    optim.schedule(optimizer, tuned.recipe.optim, 256, Moment(5, 10, 10))
    rate = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    full = rate[tuned.classifier.weight]
    assert 0 < full == rate[tuned.encoder.model.norm.weight]
    assert tuned.encoder.mask_token not in rate
    assert rate[tuned.encoder.model.blocks[1].mlp.fc1.bias] == pytest.approx(full / 4)
    assert decay[tuned.encoder.model.blocks[1].mlp.fc1.bias] == 0 < decay[tuned.encoder.model.blocks[1].mlp.fc1.weight]


@pytest.mark.parametrize(("blocks", "moving"), [(0, set()), (1, {"blocks.2", "norm"}), (3, {"blocks", "norm"})])
def test_only_the_last_blocks_are_unfrozen(blocks, moving):
    tuned = method(FinetuneSettings(unfreeze=blocks, drop_path=0.2))
    for name, parameter in tuned.encoder.model.named_parameters():
        assert parameter.requires_grad == any(name.startswith(prefix) for prefix in moving), name
    assert tuned.classifier.weight.requires_grad
    assert [rate > 0 for rate in tuned.encoder.drop_rates] == [i >= 3 - blocks and i > 0 for i in (0, 0, 1, 1, 2, 2)]


def test_the_average_follows_its_formula():
    tuned = method(FinetuneSettings(ema=0.4))
    parameter = tuned.classifier.bias
    expected, value = torch.zeros(3), torch.zeros(3)
    for step in range(6):
        value = value + step + 1
        parameter.data.copy_(value)
        tuned.after_step({}, Moment(step, 10, 1))
        share = min(0.4, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * value
    assert torch.allclose(tuned.evaluated().head.bias, expected)
    assert momentum(0.4, 0) == 0.1
    assert momentum(0.4, 1000) == 0.4
    assert method(FinetuneSettings(ema=0)).evaluated().head is not None
    assert method(FinetuneSettings(ema=0)).averaged is None


def test_other_statistics_of_pixels_go_into_the_patch_embedding():
    encoder, mean, std = Encoder(SPEC).eval(), (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)
    pixels = torch.rand(2, 3, 32, 32)
    a, b, c, d = (torch.tensor(v)[:, None, None] for v in (mean, std, IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        before = encoder((pixels - a) / b).cls
        changed = with_usual_statistics(FrozenEncoder(encoder, 32, CPU, "fp32", mean, std))
        assert (changed.mean, changed.std) == (IMAGENET_MEAN, IMAGENET_STD)
        assert torch.allclose(changed.encoder((pixels - c) / d).cls, before, atol=1e-4)


def test_models_without_cls_or_blocks(tmp_path):
    spec = EncoderSpec("vit_base_patch16_siglip_gap_224", 32, 16, width=24, depth=1, heads=3)
    pooled = method(FinetuneSettings(mixup=0, cutmix=0), Encoder(spec))
    assert pooled.evaluated()(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(UsageError, match="has no CLS token; try --pool mean"):
        method(FinetuneSettings(pool="cls"), Encoder(spec))
    resnet = Encoder(EncoderSpec("resnet18", 32))
    assert method(FinetuneSettings(), resnet).rate_factors() == {}
    with pytest.raises(UsageError, match="--unfreeze counts ViT blocks"):
        method(FinetuneSettings(unfreeze=0), resnet)
    with pytest.raises(UsageError, match="no patch tokens"):
        method(FinetuneSettings(pool="mean"), resnet)
    write.save_encoder(pooled.exported()[0], tmp_path / "e.safetensors", tmp_path / "e.json", "student")
    assert not read.load_encoder(tmp_path / "e.safetensors", tmp_path / "e.json").has_cls


class Noise:
    """Images of one size."""

    labels = np.zeros(4, np.int64)

    def __len__(self):
        return 4

    def image(self, i):
        return torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))

    def object_mask(self, i):
        return None


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_head_and_loss_are_float32_under_bf16(pool):
    from sslkit.device import autocast

    tuned, seen = method(FinetuneSettings(mixup=0, cutmix=0, ema=0.5, pool=pool)), []
    for classifier in (tuned.live, tuned.evaluated()):
        nn.init.normal_(classifier.head.weight)
        classifier.head.register_forward_hook(lambda head, given, logits: seen.append((head, given[0], logits)))
        with autocast(CPU, "bf16"):
            classifier(torch.randn(4, 3, 32, 32))
    views = ViewMaker(tuned.recipe.views, 32, 8, 0)
    images = LabelledImages(Noise(), np.arange(4), np.array([0, 1, 2, 0]))
    batch = next(batches(images, views, Order(samples=4, batch_size=4, seed=0), 0, 1, 0, False))
    with autocast(CPU, "bf16"):
        found = tuned(batch, Moment(0, 1, 1))
    assert len(seen) == 3
    assert found.loss.dtype == torch.float32
    for head, given, logits in seen:
        assert given.dtype == logits.dtype == torch.float32
        assert torch.equal(logits, nn.functional.linear(given, head.weight, head.bias))  # no product in 8 bits
