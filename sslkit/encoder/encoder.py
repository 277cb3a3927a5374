"""A timm model seen as tokens: CLS, patches, mask tokens, kept tokens, and the CLS row of the last attention.

Everything that depends on how timm builds a Vision Transformer (registers, missing CLS tokens, position
resampling, drop path) is handled here and nowhere else.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import timm
import torch
from timm.layers.attention import Attention
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.encoder.attention import project, roll_out, rows
from sslkit.errors import UsageError, did_you_mean
from sslkit.recipe.sections import EncoderSection


@dataclass(frozen=True)
class EncoderSpec:
    """What is needed to build an encoder; None leaves timm's own value of the architecture."""

    arch: str = "vit_small_patch16_224"
    image_size: int = 224  # pixels, square
    patch_size: int | None = None  # pixels, square
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    drop_path: float = 0.0

    def timm_kwargs(self) -> dict[str, Any]:
        """Arguments for ``timm.create_model`` beside the name; plain timm builds the same modules from them."""
        sizes = {"patch_size": self.patch_size, "embed_dim": self.width, "depth": self.depth, "num_heads": self.heads}
        sizes = {key: value for key, value in sizes.items() if value is not None}
        if not is_vit(self.arch):
            if sizes:
                names = {"embed_dim": "width", "num_heads": "heads"}
                raise UsageError(
                    f"{self.arch} is no plain ViT: encoder.{', '.join(names.get(key, key) for key in sizes)} of the "
                    f"recipe do not fit it; set them to null"
                )
            return {"num_classes": 0}
        return {"num_classes": 0, "img_size": self.image_size, "dynamic_img_size": True, **sizes}


@dataclass(frozen=True)
class Tokens:
    """What an encoder returns.

    Attributes:
        cls: (B, D) the CLS token after the final norm; the pooled feature where there is no CLS token.
        patches: (B, N, D) patch tokens after the final norm in row-major order; None for models that are no ViT.
        attention: (B, H, N) the last block's attention from CLS to patches, after softmax over all tokens; None
            unless asked for. A row sums to less than 1: the rest goes to CLS and registers.
    """

    cls: Tensor
    patches: Tensor | None = None
    attention: Tensor | None = None


def is_vit(arch: str) -> bool:
    """Whether a timm name is built as timm's plain ``VisionTransformer``.

    Raises:
        UsageError: timm has no such model.
    """
    name = arch.split(".")[0]
    if not timm.is_model(name):
        raise UsageError(f"timm has no model '{arch}': {did_you_mean(name, timm.list_models())}")
    return timm.model_entrypoint(name).__module__.endswith("vision_transformer")


class StochasticDepth(nn.Module):
    """Drops a residual branch per sample (arXiv:1603.09382) by scales drawn on the host.

    timm's own ``DropPath`` draws from the global generator, so neither a resumed run nor two processes would
    drop the same branches. Here the caller sets ``scales`` before the forward pass: 0 drops, 1/(1 - p) keeps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scales: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> the same, each sample times its scale."""
        return x if self.scales is None else x * self.scales.to(x.dtype)[:, None, None]


class Encoder(nn.Module):
    """A timm model as tokens.

    Args:
        spec: what to build.
        pretrained: fetch timm's weights for the name (needs a network).

    Raises:
        UsageError: unknown name, or an image size that the patch size does not divide.
    """

    def __init__(self, spec: EncoderSpec, pretrained: bool = False):
        super().__init__()
        self.spec = spec
        self.vit = is_vit(spec.arch)
        kwargs = spec.timm_kwargs()
        if self.vit and spec.patch_size and spec.image_size % spec.patch_size:
            raise UsageError(
                f"patch size {spec.patch_size} does not divide image size {spec.image_size}: "
                f"try {spec.image_size // spec.patch_size * spec.patch_size} pixels"
            )
        self.model: Any = timm.create_model(spec.arch, pretrained=pretrained, **kwargs)
        self.width = int(getattr(self.model, "num_features", 0))
        self.drop_rates: list[float] = []
        if self.vit:
            assert isinstance(self.model, VisionTransformer)
            self.depth = len(self.model.blocks)
            self.patch_size = int(self.model.patch_embed.patch_size[0])
            self.prefix = int(self.model.num_prefix_tokens)
            self.has_cls = self.model.cls_token is not None
            attentions = (getattr(block, "attn", block) for block in self.model.blocks)  # others have theirs within
            self._strange = next((type(a).__name__ for a in attentions if not isinstance(a, Attention)), "")
            self.mask_token = nn.Parameter(torch.zeros(1, self.width))
            if spec.image_size % self.patch_size:
                raise UsageError(f"patch size {self.patch_size} does not divide image size {spec.image_size}")
            if spec.drop_path > 0:
                self._install_drop_path(spec.drop_path)

    def _install_drop_path(self, rate: float) -> None:
        # Linear over depth, both branches of a block alike, as in DeiT and DINO.
        for index, block in enumerate(self.model.blocks):
            block.drop_path1, block.drop_path2 = StochasticDepth(), StochasticDepth()
            self.drop_rates += [rate * index / max(self.depth - 1, 1)] * 2

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Patch rows and columns of an image of this size in pixels."""
        return height // self.patch_size, width // self.patch_size

    def why_no_attention(self, cls: bool = True) -> str:
        """Why attention cannot be read from it; empty where it can.

        Args:
            cls: the attention of the CLS token; else that of any patch.
        """
        if not self.vit:
            return f"{self.spec.arch} is no ViT"
        if cls and not self.has_cls:
            return f"{self.spec.arch} has no CLS token"
        return f"{self.spec.arch} has attention of kind {self._strange}" if self._strange else ""

    def forward(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        keep: Tensor | None = None,
        attention: bool = False,
        drop: Tensor | None = None,
    ) -> Tokens:
        """Encode a batch.

        Args:
            images: (B, 3, H, W) normalised; H and W multiples of the patch size.
            mask: (B, N) bool, True = the mask token replaces the patch embedding, before positions are added.
            keep: (B, M) int64, indices of the patches that enter the blocks, as in MAE; ``patches`` has M tokens then.
            attention: also return the CLS row of the last block.
            drop: (2L, B) scales of the residual branches, see ``drop_scales``; None drops nothing.

        Raises:
            UsageError: masks, kept tokens or attention asked of a model that has none.
        """
        if not self.vit:
            if mask is not None or keep is not None or attention:
                raise UsageError(f"{self.spec.arch} is no ViT: it has no patch tokens to mask and no CLS attention")
            features = self.model(images)
            return Tokens(cls=features)
        x = self._embed(images, mask, keep)
        self._set_drop(drop)
        blocks = self.model.blocks
        for block in blocks[:-1]:
            x = block(x)
        row = self._cls_attention(blocks[-1], x) if attention else None
        x = self.model.norm(blocks[-1](x))
        return Tokens(cls=self._pool(x), patches=x[:, self.prefix :], attention=row)

    def last_cls(self, images: Tensor, last: int) -> tuple[Tensor, Tensor | None]:
        """CLS of the last blocks, each after the final norm, and the patches' mean (arXiv:2104.14294, section 4).

        Returns:
            (B, L, D) in block order, and (B, D); for a model that is no ViT (B, 1, D) and None.
        """
        if not self.vit:
            return self(images).cls[:, None], None
        x = self._embed(images, None, None)
        self._set_drop(None)
        rows = []
        for index, block in enumerate(self.model.blocks):
            x = block(x)
            if index >= self.depth - last:
                rows.append(self._pool(self.model.norm(x)))
        return torch.stack(rows, 1), self.model.norm(x)[:, self.prefix :].mean(1)

    def attention_maps(self, images: Tensor, layers: Sequence[int], query: int | None = None) -> Tensor:
        """Attention from one token in some layers; only its rows are computed, the blocks stay fused.

        Args:
            images: (B, 3, H, W) normalised; H and W multiples of the patch size.
            layers: counted from 1, in any order.
            query: index of a patch, row by row from 0; None asks for CLS.

        Returns:
            (B, L, H, N) float32, in the order of ``layers``, after softmax over all tokens: as in ``Tokens``, a row
            sums to less than 1 where there are CLS or register tokens.

        Raises:
            UsageError: a layer or patch that is not there, CLS of a model that has none, or no plain ViT.
        """
        token = self._asking(images, query)
        strange = [layer for layer in layers if not 1 <= layer <= self.depth]
        if strange:
            raise UsageError(f"layer {strange[0]}: {self.spec.arch} has layers 1 to {self.depth}")
        found: dict[int, Tensor] = {}
        x = self._embed(images, None, None)
        self._set_drop(None)
        for number, block in enumerate(self.model.blocks[: max(layers)], 1):
            if number in layers:
                found[number] = self._attention_row(block, x, token)
            if number < max(layers):
                x = block(x)
        return torch.stack([found[layer] for layer in layers], 1)

    def attention_rollout(self, images: Tensor, query: int | None = None) -> Tensor:
        """Attention rollout (arXiv:2005.00928) from one token through all layers, see ``attention.roll_out``.

        Args:
            images: (B, 3, H, W) normalised; H and W multiples of the patch size.
            query: index of a patch, row by row from 0; None asks for CLS.

        Returns:
            (B, N) float32; it sums to less than 1 where there are CLS or register tokens.

        Raises:
            UsageError: as ``attention_maps``.
        """
        token = self._asking(images, query)
        x = self._embed(images, None, None)
        self._set_drop(None)
        layers = []
        for block in self.model.blocks:
            inner = block.norm1(x)
            layers.append((block, *project(block, inner, inner)))
            x = block(x)
        start = torch.zeros(x.shape[:2], device=x.device)
        start[:, token] = 1
        return roll_out(layers, start)[:, self.prefix :]

    def _embed(self, images: Tensor, mask: Tensor | None, keep: Tensor | None) -> Tensor:
        """(B, 3, H, W) -> (B, prefix + N, D) with positions, ready for the first block."""
        x = self.model.patch_embed(images)  # (B, h, w, D)
        if mask is not None:
            x = torch.where(mask.view(*x.shape[:3], 1), self.mask_token.to(x.dtype), x)
        x = self.model._pos_embed(x)
        if keep is not None:
            kept = x[:, self.prefix :].gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
            x = torch.cat([x[:, : self.prefix], kept], 1)
        return self.model.norm_pre(x)

    def _pool(self, x: Tensor) -> Tensor:
        """(B, T, D) after the norm -> (B, D)."""
        if self.has_cls:
            return x[:, 0]
        return self.model.forward_head(x, pre_logits=True)

    def _cls_attention(self, block: Any, x: Tensor) -> Tensor:
        """One row of one block: softmax(q_cls k^T / sqrt(d)) over all tokens, cut to the patches, in float32."""
        if why := self.why_no_attention():
            raise UsageError(f"{why}: CLS attention cannot be read from it")
        return self._attention_row(block, x, 0)

    def _attention_row(self, block: Any, x: Tensor, token: int) -> Tensor:
        """(B, T, D) before a block -> (B, H, N) attention from one token to the patches."""
        x = block.norm1(x)
        q, k = project(block, x, x[:, token : token + 1])
        return rows(block, q, k)[:, :, 0, self.prefix :]

    def _asking(self, images: Tensor, query: int | None) -> int:
        """Position among the tokens of CLS (None) or of a patch; refuses what ``attention_maps`` does."""
        if why := self.why_no_attention(cls=query is None):
            raise UsageError(f"{why}: attention from {'CLS' if query is None else 'patches'} cannot be read from it")
        patches = math.prod(self.grid(*images.shape[-2:]))
        if query is not None and not 0 <= query < patches:
            raise UsageError(f"patch {query}: there are {patches}, counted from 0, row by row")
        return 0 if query is None else self.prefix + query

    def _set_drop(self, drop: Tensor | None) -> None:
        if not self.drop_rates:
            return
        for index, block in enumerate(self.model.blocks):
            block.drop_path1.scales = None if drop is None else drop[2 * index]
            block.drop_path2.scales = None if drop is None else drop[2 * index + 1]

    def fix_positions(self) -> None:
        """Take 2-d sine and cosine positions that never move in the place of learned ones (arXiv:2111.06377).

        CLS and registers get zeros. The table stays timm's own parameter, so plain timm loads what is exported.

        Raises:
            UsageError: no table of positions to set, or a width that 4 does not divide.
        """
        table = getattr(self.model, "pos_embed", None)
        if table is None:
            raise UsageError(f"{self.spec.arch} has no table of positions to fix")
        fixed = sincos_positions(self.model.patch_embed.grid_size, self.width)
        with torch.no_grad():
            # The table begins with the prefix tokens, in architectures that give them a position.
            table.zero_()[0, table.shape[1] - len(fixed) :] = fixed
        table.requires_grad_(False)

    def drop_scales(self, uniforms: Tensor) -> Tensor | None:
        """Scales for ``drop`` from uniform numbers in [0, 1) of shape (2L, B); None when nothing is ever dropped."""
        if not self.drop_rates:
            return None
        rates = torch.tensor(self.drop_rates, device=uniforms.device)[:, None]
        return (uniforms >= rates).float() / (1 - rates)

    def info(self, branch: Literal["student", "teacher", "timm"]) -> dict[str, Any]:
        """What ``encoder.json`` holds: enough to load the weights with plain timm."""
        return {
            "arch": self.spec.arch,
            "timm_kwargs": self.spec.timm_kwargs(),
            "image_size": self.spec.image_size,
            "width": self.width,
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
            "branch": branch,
            "spec": asdict(self.spec),
            "load": "timm.create_model(arch, **timm_kwargs).load_state_dict(safetensors.torch.load_file(FILE))",
        }

    @staticmethod
    def from_section(section: EncoderSection) -> "Encoder":
        """A freshly initialised encoder from a recipe's section."""
        return Encoder(EncoderSpec(**section.model_dump()))

    @staticmethod
    def from_info(info: dict[str, Any]) -> "Encoder":
        """An encoder built from ``encoder.json``, without drop path and without its weights."""
        return Encoder(EncoderSpec(**{**info["spec"], "drop_path": 0.0}))


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Positions of patches as sines and cosines of row and column (arXiv:1706.03762, section 3.5, in two dimensions).

    Args:
        grid: patch rows and columns, N in all.
        width: D.

    Returns:
        (N, D) in row-major order; each of the D/4 wavelengths gives a sine and a cosine of the row and of the column.

    Raises:
        UsageError: 4 does not divide the width.
    """
    if width % 4:
        raise UsageError(
            f"sine and cosine positions need a width that 4 divides, not {width}: try {width // 4 * 4 + 4}"
        )
    return build_sincos2d_pos_embed(list(grid), width)


def unfuse_attention(module: nn.Module) -> None:
    """Let every attention below a module multiply matrices instead of calling the fused kernel.

    On a CPU the fused kernel's backward pass in bf16 is so slow that a training step of ViT-S/16 takes 1.3 times
    as long with it, one of a small ViT at 48 pixels 1.6 times (torch 2.15); its forward pass is as fast.
    """
    for below in module.modules():
        if isinstance(below, Attention):
            below.fused_attn = False  # pyright: ignore[reportAttributeAccessIssue]
