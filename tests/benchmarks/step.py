"""Training steps: AttMask against iBOT with random masks, bf16 against fp32, sslkit against a plain implementation.

python tests/benchmarks/step.py
"""

import argparse
import copy
from collections.abc import Callable

import timm
import torch
from timing import interleave, ratio, show, verdict
from torch import Tensor, nn
from torch.nn import functional as F

from sslkit import registry
from sslkit.data.augment import photometric
from sslkit.data.batch import Batch
from sslkit.data.loader import ViewBatches
from sslkit.data.views import ViewMaker
from sslkit.device import Precision, autocast, pick_device, resolve_precision
from sslkit.methods.base import Method
from sslkit.optimizers import base as optim
from sslkit.recipe.schema import Recipe, resolve
from sslkit.schedules import Moment
from stages.inputs.recipes import find

K = 8192
STEPS_PER_EPOCH = 100


class Noise:
    """Images to make views of; what they show costs nothing and changes nothing."""

    def __init__(self, count: int):
        self.labels = torch.full((count,), -1).numpy()

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, i: int) -> Tensor:
        """(3, 256, 256) uint8."""
        return torch.randint(0, 256, (3, 256, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))


def batch_of(recipe: Recipe, device: torch.device) -> Batch:
    """One batch of views, on the device."""
    images = Noise(recipe.train.batch_size)
    views = ViewMaker(recipe.views, recipe.encoder.image_size, recipe.encoder.patch_size or 16, seed=0)
    return ViewBatches(images, views)[0, torch.arange(len(images)).numpy()].to(device)


def sslkit_step(recipe: Recipe, device: torch.device, precision: Precision) -> Callable[[], object]:
    """One step after the other of a recipe, as the loop takes them."""
    torch.manual_seed(0)
    method = registry.load("sslkit.methods", recipe.method.name)(recipe).to(device)
    method.suit_device(device, "auto", precision)
    step, batch = stepper(method, recipe, precision, device), batch_of(recipe, device)
    return lambda: step(batch).item()


def stepper(method: Method, recipe: Recipe, precision: Precision, device: torch.device) -> Callable[[Batch], Tensor]:
    """One step after the other, as the loop takes them; the loss of a batch on the device."""
    optimizer = optim.build(method, recipe.optim)
    trained = [p for p in method.parameters() if p.requires_grad]
    steps = iter(range(10 * STEPS_PER_EPOCH, 10**9))  # the last layer, frozen at first, moves
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(batch: Batch) -> Tensor:
        at = Moment(next(steps), STEPS_PER_EPOCH, recipe.train.epochs)
        optim.schedule(optimizer, recipe.optim, recipe.train.batch_size, at)
        with autocast(device, precision):
            result = method(batch, at)
        scaler.scale(result.loss).backward()
        norm = optim.clip_each(trained, recipe.optim.clip)
        optim.step_unless(optimizer, ~torch.isfinite(norm))
        optimizer.zero_grad(set_to_none=True)
        method.after_step(result.statistics, at)
        return result.loss.detach()

    return step


class PlainHead(nn.Module):
    """DINO's head: three layers, L2-norm, weight-normed prototypes."""

    def __init__(self, width: int):
        super().__init__()
        gelu = nn.GELU()
        self.mlp = nn.Sequential(nn.Linear(width, 2048), gelu, nn.Linear(2048, 2048), gelu, nn.Linear(2048, 256))
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(256, K, bias=False))

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., K)."""
        return self.last(F.normalize(self.mlp(tokens), dim=-1))


class PlainBranch(nn.Module):
    """A timm ViT and its head, written the straightforward way: every token everywhere."""

    def __init__(self, arch: str, drop_path: float):
        super().__init__()
        self.vit = timm.create_model(arch, num_classes=0, dynamic_img_size=True, drop_path_rate=drop_path)
        self.mask_token = nn.Parameter(torch.zeros(self.vit.embed_dim))
        self.head = PlainHead(self.vit.embed_dim)

    def forward(self, crops: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of all tokens (B, 1 + N, K), and the last block's whole attention (B, H, T, T)."""
        vit = self.vit
        x = vit.patch_embed(crops)
        if mask is not None:
            x = torch.where(mask.view(*x.shape[:3], 1), self.mask_token.to(x.dtype), x)
        x = vit._pos_embed(x)
        for block in vit.blocks[:-1]:
            x = block(x)
        block, attn = vit.blocks[-1], vit.blocks[-1].attn
        q, k, v = attn.qkv(block.norm1(x)).unflatten(-1, (3, attn.num_heads, attn.head_dim)).permute(2, 0, 3, 1, 4)
        rows = (q * attn.scale @ k.transpose(-2, -1)).softmax(-1)
        x = x + block.drop_path1(attn.proj((rows.to(v.dtype) @ v).transpose(1, 2).flatten(2)))
        x = x + block.drop_path2(block.mlp(block.norm2(x)))
        return self.head(vit.norm(x)), rows


def plain_step(arguments: argparse.Namespace, precision: Precision) -> Callable[[], None]:
    """AttMask without any economy: heads on every token, full attention in the last block, the same dtype."""
    device = pick_device(arguments.device)
    recipe = resolve([find("attmask"), find("imagenet-subset")], [f"train.batch_size={arguments.batch_size}"])
    torch.manual_seed(0)
    student = PlainBranch(arguments.arch, recipe.encoder.drop_path).to(device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5)
    batch = batch_of(recipe, device)
    centre, patch_centre = torch.zeros(K, device=device), torch.zeros(K, device=device)

    def loss() -> Tensor:
        large, small = (photometric(c, d) for c, d in zip(batch.crops, batch.photometric, strict=True))
        with torch.no_grad():
            target, rows = teacher(large.flatten(0, 1))
            row = rows[:, :, 0, 1:].mean(1)
            hidden = int(0.3 * row.shape[1])
            mask = torch.zeros_like(row, dtype=torch.bool).scatter(1, row.topk(hidden).indices, True)
            mask[::2] = False  # every other crop, as a coin of 0.5 gives on average
            target = target.float()
            p_cls = ((target[:, 0] - centre) / 0.04).softmax(-1).unflatten(0, large.shape[:2])
            p_patch = ((target[:, 1:] - patch_centre) / 0.04).softmax(-1)
            centre.lerp_(target[:, 0].mean(0), 0.1)
            patch_centre.lerp_(target[:, 1:].mean((0, 1)), 0.1)
        seen, _ = student(large.flatten(0, 1), mask)
        local, _ = student(small.flatten(0, 1))
        patch = -(p_patch * (seen[:, 1:].float() / 0.1).log_softmax(-1)).sum(-1)
        patch = ((patch * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()
        cls = [*seen[:, 0].unflatten(0, large.shape[:2]), *local[:, 0].unflatten(0, small.shape[:2])]
        logs = [(c.float() / 0.1).log_softmax(-1) for c in cls]
        pairs = [-(p * q).sum(-1).mean() for i, p in enumerate(p_cls) for j, q in enumerate(logs) if i != j]
        return patch + torch.stack(pairs).mean()

    def step() -> None:
        with autocast(device, precision):
            value = loss()
        value.backward()
        for parameter in student.parameters():
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_([parameter], 3.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.mul_(0.99).add_(new, alpha=0.01)
        value.item()

    return step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vit_small_patch16_224")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-fp32", action="store_true", help="leave out the slow contender")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    words = [f"train.batch_size={arguments.batch_size}", f"heads.prototypes.out={K}", f"encoder.arch={arguments.arch}"]
    attmask, ibot = (resolve([find(name), find("imagenet-subset")], words) for name in ("attmask", "ibot-random"))
    contenders = {
        "AttMask, bf16": sslkit_step(attmask, device, "bf16"),
        "iBOT-random, bf16": sslkit_step(ibot, device, "bf16"),
        "plain AttMask, bf16": plain_step(arguments, "bf16"),
    }
    if not arguments.without_fp32:
        contenders["AttMask, fp32"] = sslkit_step(attmask, device, "fp32")
    seconds = interleave(contenders, arguments.rounds)
    print(f"{arguments.arch}, 2 x 224 + 6 x 96 crops, K = {K}, batch {arguments.batch_size}, {arguments.device}")
    show(seconds, arguments.batch_size, "images")
    verdict(
        "AttMask / iBOT-random, seconds", ratio(seconds, "AttMask, bf16", "iBOT-random, bf16"), 1.03, at_least=False
    )
    verdict("plain / sslkit, seconds", ratio(seconds, "plain AttMask, bf16", "AttMask, bf16"), 1.3)
    verdict("AttMask images/s", arguments.batch_size / sorted(seconds["AttMask, bf16"])[arguments.rounds // 2], 6)
    if not arguments.without_fp32 and resolve_precision("auto", device) == "bf16":
        verdict("fp32 / bf16, seconds", ratio(seconds, "AttMask, fp32", "AttMask, bf16"), 2.5)


if __name__ == "__main__":
    main()
