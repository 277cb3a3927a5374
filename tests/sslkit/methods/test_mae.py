"""MAE: the loss by an oracle, what the encoder may not see, exact masks, and the chain it runs in."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from conftest import FIXTURES
from tiny_batches import batch_of, part

from sslkit import registry, rng
from sslkit.data.batch import Batch
from sslkit.data.loader import DecodedImages, ViewBatches
from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD, unnormalise
from sslkit.data.views import ViewMaker
from sslkit.encoder.sincos_positions import sincos_positions
from sslkit.errors import UsageError
from sslkit.masks.attention import rank
from sslkit.masks.base import Masks, exact
from sslkit.methods.mae import (
    Decoder,
    DecoderSection,
    MaskedAutoencoder,
    denormalised,
    loss,
    normalised,
    patchify,
    unpatchify,
    visible,
)
from sslkit.recipe.schema import resolve
from sslkit.recipe.validation import validated
from sslkit.schedules import Moment
from stages.inputs.recipes import find

AT = Moment(step=3, steps_per_epoch=10, epochs=10)
RECIPES = ["mae", "mae-block", "mae-attmask"]


@pytest.fixture
def oracle() -> dict[str, torch.Tensor]:
    with np.load(FIXTURES / "mae_loss.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file}


@pytest.fixture
def build(tiny_scale):
    def make(name="mae", *overrides: str) -> MaskedAutoencoder:
        torch.manual_seed(0)
        return MaskedAutoencoder(resolve([find(name), tiny_scale], ["encoder.drop_path=0", *overrides]))

    return make


# The loss.


def test_patches_and_losses_meet_the_authors(oracle):
    patches = patchify(oracle["images"], int(oracle["patch_size"]))
    assert torch.equal(patches, oracle["patches"])
    for target, expected in ((patches, "loss"), (normalised(patches), "loss_norm_pix")):
        found = loss(oracle["prediction"], target, oracle["mask"])
        torch.testing.assert_close(found, oracle[expected], rtol=1e-5, atol=1e-5)


def test_unpatchify_is_the_inverse(oracle):
    assert torch.equal(unpatchify(oracle["patches"], int(oracle["patch_size"])), oracle["images"])


def test_the_loss_is_a_loop_over_removed_patches():
    prediction, target = torch.randn(2, 3, 5, 12, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, 1, 0], [1, 1, 0, 0, 0]]).bool()
    errors = []
    for b, n in mask.nonzero().tolist():
        mean = sum(target[b, n]) / 12
        variance = sum((x - mean) ** 2 for x in target[b, n]) / 11
        wanted = [(x - mean) / (variance + 1e-6) ** 0.5 for x in target[b, n]]
        errors += [(p - w) ** 2 for p, w in zip(prediction[b, n], wanted, strict=True)]
    torch.testing.assert_close(loss(prediction, normalised(target), mask), sum(errors) / len(errors))


# The model.


def test_the_encoder_never_sees_removed_patches(build):
    method = build()
    batch = batch_of(method)
    images = torch.randn(4, 3, 32, 32)
    masks = method._draw_masks(batch, images[None], AT)
    patches = patchify(images, 8)
    patches[masks.mask] += 1
    other = unpatchify(patches, 8)
    assert not torch.equal(images, other)
    keep = visible(masks)
    tokens, tokens2 = (method.student(i, keep=keep) for i in (images, other))
    assert torch.equal(tokens.cls, tokens2.cls)
    assert torch.equal(tokens.patches, tokens2.patches)
    prediction, prediction2 = (method._predict(batch, i, masks, AT) for i in (images, other))
    assert torch.equal(prediction, prediction2)
    assert tokens.patches.shape[1] == 4
    # What is visible matters, to the encoder and to the decoder's paint.
    patches = patchify(images, 8)
    patches[~masks.mask] += 1
    assert not torch.allclose(prediction, method._predict(batch, unpatchify(patches, 8), masks, AT))


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_trains_student_and_decoder_and_nothing_else(build, name):
    method = build(name)
    losses = method(batch_of(method), AT)
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    assert losses.metrics["loss"] == losses.loss.detach()
    without = {n for n, p in method.named_parameters() if not n.startswith("teacher.") and p.grad is None}
    assert without == {"student.mask_token", "student.model.pos_embed", "decoder.positions"}
    assert not any(p.requires_grad for n, p in method.named_parameters() if n in without or n.startswith("teacher."))
    assert (method.teacher is None) == (name != "mae-attmask")


def test_the_loss_is_that_of_the_predicted_removed_patches(build):
    method = build("mae", "method.normalise=false")
    batch = batch_of(method)
    images, mask, painted = method.reconstruct(batch, AT)
    error = (patchify(painted, 8) - patchify(images, 8)).square()
    assert (error[~mask] == 0).all()
    torch.testing.assert_close(method(batch, AT).loss.detach(), error[mask].mean())


def test_a_reconstruction_has_the_mean_and_scale_of_the_true_patches(build):
    method = build()
    with torch.no_grad():
        for p in method.decoder.predict.parameters():
            p.zero_()  # predicts the mean of every patch
    images, mask, painted = method.reconstruct(batch_of(method), AT)
    true, seen = patchify(images, 8), patchify(painted, 8)
    torch.testing.assert_close(seen[mask], true[mask].mean(-1, keepdim=True).expand(-1, 192))
    assert torch.equal(seen[~mask], true[~mask])


def test_the_decoder_puts_every_token_in_its_place():
    decoder = Decoder(8, 1, (4, 4), DecoderSection(width=8, depth=0, heads=1))
    decoder.embed = decoder.norm = decoder.predict = torch.nn.Identity()
    with torch.no_grad():
        decoder.positions.zero_()
        decoder.mask_token.fill_(-1)
    tokens = torch.arange(2 * 16 * 8.0).view(2, 16, 8)
    keep = torch.tensor([[1, 5, 14], [0, 2, 3]])
    out = decoder(torch.full((2, 8), 99.0), tokens.gather(1, keep[..., None].expand(-1, -1, 8)), keep)
    for b in range(2):
        for n in range(16):
            assert torch.equal(out[b, n], tokens[b, n] if n in keep[b] else torch.full((8,), -1.0))


def test_the_decoder_knows_where_its_mask_tokens_are():
    """With nothing but positions to tell removed patches apart, their predictions differ."""
    decoder = Decoder(8, 2, (2, 3), DecoderSection(width=8, depth=1, heads=2))
    out = decoder(torch.zeros(1, 8), torch.zeros(1, 1, 8), torch.tensor([[2]]))
    assert len(out[0].detach().numpy().round(5).tolist()) == len(np.unique(out[0].detach().numpy().round(5), axis=0))


def test_crops_smaller_than_the_images_have_a_decoder_of_their_own_grid(build):
    method = build("mae", "views.global.size=24")
    assert method.decoder.positions.shape == (9, 24)
    assert method.student.model.pos_embed.shape == (1, 17, 24)
    batch = batch_of(method)
    assert torch.isfinite(method(batch, AT).loss)
    assert method.preview(batch, AT).masks.sum(-1).eq(int(0.75 * 9)).all()


def test_linear_layers_are_xavier_uniform_and_registers_get_no_position(build):
    method = build("mae", "method.decoder.depth=2")
    for module in (*method.student.modules(), *method.decoder.modules()):
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            bound = (6 / sum(module.weight.flatten(1).shape)) ** 0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert not module.bias.any()
    assert not method.student.model.pos_embed[0, 0].any()
    torch.testing.assert_close(method.student.model.pos_embed[0, 1:], sincos_positions((4, 4), 24))


def test_the_teacher_follows_and_its_positions_stay(build):
    method = build("mae-attmask")
    student, teacher = method.student.model, method.teacher.model
    before = teacher.cls_token.clone()
    with torch.no_grad():
        student.cls_token.add_(1.0)
    method.after_step({}, AT)
    momentum = 1 + (0.996 - 1) * (1 + np.cos(np.pi * 0.03)) / 2
    torch.testing.assert_close(teacher.cls_token, before + (1 - momentum))
    assert torch.equal(teacher.pos_embed, student.pos_embed)


@pytest.mark.parametrize(("precision", "fused"), [("bf16", False), ("fp16", False), ("fp32", True)])
def test_cpu_attention_that_is_trained_is_unfused_in_bf16(build, precision, fused):
    method = build("mae-attmask")
    method.suit_device(torch.device("cpu"), "off", precision)

    trained = {m.fused_attn for m in method.modules() if hasattr(m, "fused_attn") and m.qkv.weight.requires_grad}
    assert trained == {fused}
    assert all(m.fused_attn for m in method.teacher.modules() if hasattr(m, "fused_attn"))


# Masks.


@pytest.mark.parametrize("ratio", [(0.75, 0.75), (0.3, 0.8)])
@pytest.mark.parametrize("grid", [(5, 5), (14, 14)])
@pytest.mark.parametrize("keys", [*registry.names("sslkit.masks"), "hint"])
def test_every_strategy_hides_an_exact_number(keys, grid, ratio):
    settings = {"strategy": "attention", "order": "hint"} if keys == "hint" else {"strategy": keys}
    kind = registry.load("sslkit.masks", settings["strategy"])
    masking = validated(kind, {**settings, "ratio": ratio, "ratio_per": "step", "probability": 1.0})
    patches, samples, shown = grid[0] * grid[1], np.arange(6), 0
    attention = torch.from_numpy(rng.generator(0, "test").random((12, patches))).float()
    for step in range(6):
        masks = masking.draw_exact(0, step, samples, 2, grid, attention, attention)
        count = int(rng.generator(0, "mask-step", step).uniform(*ratio) * patches)
        assert (masks.mask.sum(1) == count).all()
        assert (masks.counts == count).all()
        free = masking.draw(0, step, samples, 2, grid, attention, attention)
        assert not (free.mask & ~masks.mask).any(), "what the strategy chose stays hidden"
        again = masking.draw_exact(0, step, samples[3:], 2, grid, *2 * [attention.view(2, 6, -1)[:, 3:].flatten(0, 1)])
        assert torch.equal(again.mask, masks.mask.view(2, 6, -1)[:, 3:].flatten(0, 1)), "a crop's own, in any batch"
        shown += int((~masks.mask & (rank(attention) < int(0.1 * patches))).sum())
    if keys == "hint" and patches > 100:
        assert shown > 0, "topping up must not take the hint back"


def test_masks_are_trimmed_and_topped_up_by_preference():
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 1]]).bool()
    preference = torch.tensor([[0.1, 0.9, 0.5, 1.0], [0.1, 0.9, 0.5, 0.0]])
    found = exact(Masks(mask, mask.sum(1).numpy()), 2, preference)
    assert found.mask.int().tolist() == [[0, 1, 1, 0], [0, 1, 0, 1]]
    assert found.counts.tolist() == [2, 2]
    assert visible(found).tolist() == [[0, 3], [0, 2]]


def test_attention_masks_remove_what_the_teacher_attends_to(build):
    method = build("mae-attmask")
    batch, preview = batch_of(method), method.preview(batch_of(method), AT)
    attention = method.teacher(preview.pictures["global"].flatten(0, 1), attention=True).attention.mean(1)
    assert torch.equal(preview.masks.flatten(0, 1), rank(attention) < 8)
    # The teacher's, not the student's: another student, the same masks.
    for p in method.student.parameters():
        p.data.add_(torch.randn_like(p))
    assert torch.equal(method.preview(batch, AT).masks, preview.masks)


def test_the_seed_and_the_step_choose_the_masks(build):
    def masks(seed, step):
        method = build("mae", f"train.seed={seed}")
        return method.preview(batch_of(method), Moment(step, 10, 10)).masks

    assert torch.equal(masks(0, 3), masks(0, 3))
    assert not torch.equal(masks(0, 3), masks(1, 3))
    assert not torch.equal(masks(0, 3), masks(0, 4))


@pytest.mark.parametrize(
    ("name", "overrides"), [("mae", []), ("mae-block", ["views.global.count=2", "encoder.drop_path=0.5"])]
)
def test_halves_of_a_batch_have_the_gradient_of_the_whole(build, name, overrides):
    """Crops are independent and all remove the same number: micro-batches and processes need nothing but a mean."""
    method = build(name, *overrides)
    batch = batch_of(method)

    def gradient(parts):
        method.zero_grad()
        for p in parts:
            (method(p, AT).loss / len(parts)).backward()
        return torch.cat([p.grad.flatten() for p in method.parameters() if p.requires_grad])

    halves = gradient([part(batch, slice(0, 2)), part(batch, slice(2, 4))])
    torch.testing.assert_close(halves, gradient([batch]), rtol=1e-3, atol=1e-6)


def test_the_objects_under_the_masks_are_counted(build):
    method = build()
    batch = batch_of(method)
    everywhere = torch.full((1, 4, 32, 32), 255, dtype=torch.uint8)
    seen = method(Batch(batch.samples, batch.labels, batch.crops, batch.photometric, everywhere), AT)
    assert seen.metrics["masked_on_object"] == seen.metrics["tokens_on_object"] == 1
    assert "masked_on_object" not in method(batch, AT).metrics


def test_a_preview_shows_crops_and_normalised_targets(build):
    method = build("mae", "views.global.count=2")
    preview = method.preview(batch_of(method), AT)
    assert preview.masks.shape == (2, 4, 16)
    assert list(preview.pictures) == ["global", "target"]
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    targets = patchify((preview.pictures["target"] * std + mean).flatten(0, 1), 8)  # as they are drawn, 0 to 1
    torch.testing.assert_close(targets.mean(-1), torch.full((8, 16), 0.5), rtol=0, atol=1e-5)
    torch.testing.assert_close(targets.std(-1), torch.full((8, 16), 0.2), rtol=0, atol=1e-3)
    plain = build("mae", "method.normalise=false")
    assert list(plain.preview(batch_of(plain), AT).pictures) == ["global"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mask=null"], "mae needs a mask"),
        (["mask.probability=0.5"], "mask.probability must be 1, not 0.5"),
        (["mask.ratio_per=crop"], "mask.ratio_per must be step"),
        (["mask.ratio=[0.01,0.5]"], "removes between 0 and 8 of 16 patches"),
        (["mask.ratio=[0.5,1.0]"], "removes between 8 and 16 of 16 patches"),
        (["mask.strategy=attention"], "needs a teacher's attention"),
        (["views.local={count: 2, size: 16}"], "takes no local crops: --set views.local.count=0"),
        (
            ["heads.prototypes={kind: dino}", "objectives.dino={head: prototypes}"],
            "takes no heads",
        ),
        (["encoder={arch: resnet18, patch_size: null, width: null, depth: null, heads: null}"], "no patch|resnet18"),
        (["method.decoder.heads=5"], "heads 5 does not divide its width 24"),
        (["method.decoder.widht=5"], "did you mean 'method.decoder.width'"),
    ],
)
def test_contradictions_are_one_line_before_any_data_is_read(build, overrides, message):
    with pytest.raises(UsageError, match=message) as error:
        build("mae", *overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scale", ["demo", "small32", "imagenet"])
def test_scales_shrink_the_decoder_where_there_is_one(scale):
    sizes = {"demo": (48, 1, 3), "small32": (96, 2, 3), "imagenet": (512, 8, 16)}[scale]
    recipe = resolve([find("mae"), find(scale)])
    assert recipe.method.model_dump()["decoder"] == dict(zip(("width", "depth", "heads"), sizes, strict=True))
    assert recipe.method.name == "mae"
    assert resolve([find("dino"), find(scale)]).method.name == "joint_embedding"


def test_the_loss_falls_on_its_batch(build):
    method = build()
    batch = batch_of(method)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    before = method(batch, AT).loss.item()
    for _ in range(20):
        method(batch, AT).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert method(batch, AT).loss.item() < 0.9 * before


# The chain.


def test_pretrain_extract_knn(sslkit, shapes_run, tiny_scale, tmp_path):
    run, quick = tmp_path / "run", ["--device", "cpu", "--precision", "fp32"]
    words = ["--data", shapes_run, "--recipe", "mae-block", "--recipe", tiny_scale, *quick, "--workers", 0]
    for stage, more in (("pretrain", words), ("extract", [*quick, "--workers", 0]), ("knn", ["--k", 5])):
        code, out, err = sslkit(stage, run, *more)
        assert code == 0, (stage, err)
        assert out, (stage, err)
    rows = [json.loads(line) for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "masked_on_object", "tokens_on_object"} <= set(rows[-1])
    info = json.loads((run / "pretrain" / "encoder.json").read_text())
    assert info["branch"] == "student"
    model = timm.create_model(info["arch"], **info["timm_kwargs"])
    model.load_state_dict(safetensors.torch.load_file(run / "pretrain" / "encoder.safetensors"))
    torch.testing.assert_close(model.pos_embed[0, 1:], sincos_positions((4, 4), 24))


def test_denormalised_inverts_normalised():
    patches = torch.rand(2, 5, 48, generator=torch.Generator().manual_seed(0)) * 9 - 3
    patches[0, 0] = 0.25  # of one colour: the deviation is 0
    torch.testing.assert_close(denormalised(normalised(patches), patches), patches)


def test_five_channels_are_painted_and_measured(build):
    method = build("mae", "encoder.channels=5")
    pixels = torch.randint(0, 256, (4, 5, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    views = ViewMaker(method.recipe.views, 32, 8, 0, 5)
    batch = ViewBatches(DecodedImages(pixels, np.zeros(4, dtype=np.int64)), views)[0, np.arange(4)]
    crops, masks, painted = method.reconstruct(batch, Moment(0, 1, 1.0))
    assert crops.shape == painted.shape == (4, 5, 32, 32)
    assert method.decoder.predict.out_features == 8 * 8 * 5
    kept = patchify(crops, 8)[~masks]
    assert torch.equal(patchify(painted, 8)[~masks], kept)
    assert bool(method(batch, Moment(0, 1, 1.0)).loss.isfinite())


def test_targets_of_gray_images_are_drawn_gray(build):
    """And as the pattern of each patch: the same for half the contrast, and grey where there is none."""
    method = build("mae")
    batch = batch_of(method)
    ramp = torch.arange(32.0).expand(32, 32)
    gray = torch.stack([ramp, 100 + ramp / 2, torch.full((32, 32), 90.0), 200 - ramp]).to(torch.uint8)
    crop = gray[None, :, None].expand(1, 4, 3, 32, 32).contiguous()
    pictures = method.preview(replace(batch, crops=[crop]), AT).pictures
    drawn = unnormalise(pictures["target"])[0].int()
    assert (drawn.amax(1) - drawn.amin(1)).max() <= 1  # all channels of a pixel, but for rounding
    assert (drawn[2] - 127).abs().max() <= 1
    assert (drawn[0] - drawn[3].flip(-1)).abs().max() <= 1
    assert drawn[0].max() - drawn[0].min() > 100
