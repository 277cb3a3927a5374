"""What each objective pulls at, and that looking changes nothing."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sslkit.data.loader import DecodedImages, ViewBatches
from sslkit.data.views import ViewMaker
from sslkit.methods.joint_embedding import JointEmbedding
from sslkit.recipe.schema import resolve
from sslkit.schedules import Moment
from sslkit.training import gradients
from sslkit.training.loss_scale import LossScale
from stages.inputs.recipes import find

CPU = torch.device("cpu")
AT = Moment(step=3, steps_per_epoch=10, epochs=10)


def look(tiny_scale, *overrides):
    torch.manual_seed(0)
    method = JointEmbedding(resolve([find("attmask"), tiny_scale], overrides))
    pixels = torch.randint(0, 256, (4, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    views = ViewMaker(method.recipe.views, 32, 8, 0)
    batch = ViewBatches(DecodedImages(pixels, np.zeros(4, dtype=np.int64)), views)[0, np.arange(4)]
    return method, batch, gradients.by_term(method, ["dino", "ibot"], batch, AT, CPU, "fp32", LossScale(CPU, "fp32"))


def test_the_terms_gradients_add_up_to_that_of_the_loss(tiny_scale):
    method, batch, found = look(tiny_scale, "mask.probability=1.0")
    method(batch, AT).loss.backward()
    encoder = method.student.encoder
    whole = torch.cat([p.grad.flatten() for p in encoder.parameters() if p.requires_grad]).norm()
    a, b = found["dino/encoder_gradient"], found["ibot/encoder_gradient"]
    # The law of cosines, so that norms and cosine are those of the very gradients that are added.
    torch.testing.assert_close(whole**2, a**2 + b**2 + 2 * a * b * found["dino.ibot/cosine"], rtol=1e-4, atol=1e-8)
    assert a > 0
    assert b > 0


def test_a_weight_scales_its_term_only(tiny_scale):
    _, _, one = look(tiny_scale)
    _, _, two = look(tiny_scale, "objectives.ibot.weight=3.0")
    torch.testing.assert_close(two["ibot/encoder_gradient"], 3 * one["ibot/encoder_gradient"])
    torch.testing.assert_close(two["dino/encoder_gradient"], one["dino/encoder_gradient"])


@pytest.mark.parametrize("arch", ["vit", "resnet18"])
def test_looking_never_changes_the_weights(arch, sslkit, shapes_run, tiny_scale, tmp_path):
    words = ["--data", shapes_run, "--recipe", "dino", "--recipe", tiny_scale, "--device", "cpu", "--workers", 0]
    words += ["--set", "objectives.koleo={weight: 0.1}", "--epochs", 1, "--batch-size", 40, "--precision", "fp32"]
    if arch == "resnet18":
        words += ["--arch", "resnet18"]  # the sizes of the scale's ViT do not matter to it
    for steps in (0, 1):
        set_steps = ["--set", f"monitor.gradient_steps={steps}"]
        assert sslkit("pretrain", tmp_path / str(steps), *words, *set_steps)[0] == 0
    quiet, watched = (load_file(tmp_path / s / "pretrain" / "encoder.safetensors") for s in ("0", "1"))
    # Convolutions choose their kernel by where memory lies, which a second run in one process may change. A look that
    # moved a ResNet's statistics would show far above that.
    torch.testing.assert_close(watched, quiet, **({"rtol": 0, "atol": 0} if arch == "vit" else {}))
    log = [json.loads(line) for line in (tmp_path / "1/pretrain/metrics.jsonl").read_text().splitlines()]
    assert all({"dino/encoder_gradient", "koleo/encoder_gradient", "dino.koleo/cosine"} <= set(row) for row in log)
