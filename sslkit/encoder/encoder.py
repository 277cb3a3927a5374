"""A timm model seen as tokens: CLS, patches, mask tokens, kept patches, and CLS's row of the last attention.

Everything that depends on how timm builds a Vision Transformer (registers, missing CLS tokens, positions for other
resolutions, drop path) is handled in this folder and nowhere else; imported weights are resampled in ``weights/``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sslkit.encoder import stochastic_depth
from sslkit.encoder.attention import for_cls, project, rows
from sslkit.encoder.recompute import through
from sslkit.encoder.spec import EncoderSpec, is_vit
from sslkit.errors import UsageError
from sslkit.recipe.sections import EncoderSection, ViewsSection

AFTER = ("norm.", "fc_norm.", "attn_pool.", "head.", "head_drop.")  # what follows the blocks in timm's ViT


@dataclass(frozen=True)
class Tokens:
    """What an encoder returns."""

    cls: Tensor  # (B, D) the CLS token after the final norm; the pooled feature where there is no CLS token
    # (B, N, D) patch tokens after the final norm, in row-major order; None for models other than ViTs, and where nobody
    # asked for them
    patches: Tensor | None = None
    # (B, H, N) the last block's attention from CLS to patches, after softmax over all tokens; None unless requested.
    # A row sums to less than 1: the rest goes to CLS and registers.
    attention: Tensor | None = None


class Encoder(nn.Module):
    """A timm model as tokens.

    Args:
        spec: what to build.
        pretrained: download timm's weights for the architecture.

    Attributes:
        model: timm's own module.
        vit: whether it is a plain ViT; the attributes below exist only then, except ``width``.
        width: D.
        depth: L, blocks.
        patch_size: pixels.
        prefix: tokens in front of the patches: CLS and registers.
        has_cls: whether there is a CLS token.
        mask_token: (1, D) replaces the embeddings of masked patches.
        drop_rates: of the 2L residual branches; empty where nothing is ever dropped.

    Raises:
        UsageError: unknown architecture, or a patch size that does not divide the image size.
    """

    def __init__(self, spec: EncoderSpec, pretrained: bool = False):
        import timm  # takes seconds, which recipes and messages do without
        from timm.layers.attention import Attention
        from timm.models.vision_transformer import VisionTransformer

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
        for module in self.model.modules():
            if spec.norm_eps and isinstance(module, nn.LayerNorm):
                module.eps = spec.norm_eps
        self.drop_rates: list[float] = []
        if self.vit:
            assert isinstance(self.model, VisionTransformer)
            self.depth = len(self.model.blocks)
            self.patch_size = int(self.model.patch_embed.patch_size[0])
            self.prefix = int(self.model.num_prefix_tokens)
            self.has_cls = self.model.cls_token is not None
            attentions = (getattr(block, "attn", block) for block in self.model.blocks)  # some blocks have none
            self._unreadable = next((type(a).__name__ for a in attentions if not isinstance(a, Attention)), "")
            self.mask_token = nn.Parameter(torch.zeros(1, self.width))
            if spec.image_size % self.patch_size:
                raise UsageError(f"patch size {self.patch_size} does not divide image size {spec.image_size}")
            if spec.drop_path > 0:
                self.drop_rates = stochastic_depth.install(self.model.blocks, spec.drop_path)

    def freeze(self, what: int | Literal["patch_embed"]) -> None:
        """Train no embedding and none of the first blocks, or only not the patch embedding (arXiv:2104.02057).

        A frozen block drops no path: the noise would regularise nothing.

        Args:
            what: the number of blocks, 0 for the embeddings alone; or "patch_embed".

        Raises:
            UsageError: the model has fewer blocks, or is not a ViT.
        """
        if not self.vit:
            raise UsageError(f"encoder.freeze counts ViT blocks, but {self.spec.arch} is not a ViT: leave it out")
        if what == "patch_embed":
            self.model.patch_embed.requires_grad_(False)
            return
        if not 0 <= what <= self.depth:
            raise UsageError(f"encoder.freeze is {what}: {self.spec.arch} has {self.depth} blocks here")
        for name, parameter in self.model.named_parameters():
            frozen = int(name.split(".")[1]) < what if name.startswith("blocks.") else not name.startswith(AFTER)
            parameter.requires_grad_(parameter.requires_grad and not frozen)
        for index in range(min(2 * what, len(self.drop_rates))):
            self.drop_rates[index] = 0.0

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of an image of this size in pixels."""
        return height // self.patch_size, width // self.patch_size

    def why_no_attention(self, cls: bool = True) -> str:
        """Why attention cannot be read from this encoder; empty where it can.

        Args:
            cls: the attention of the CLS token; else that of any patch.
        """
        if not self.vit:
            return f"{self.spec.arch} is not a ViT"
        if cls and not self.has_cls:
            return f"{self.spec.arch} has no CLS token"
        return f"{self.spec.arch} has attention of kind {self._unreadable}" if self._unreadable else ""

    def forward(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        keep: Tensor | None = None,
        attention: bool = False,
        drop: Tensor | None = None,
        patches: bool = True,
    ) -> Tokens:
        """Encode a batch.

        Args:
            images: (B, C, H, W) normalised; H and W multiples of the patch size.
            mask: (B, N) bool, True = the mask token replaces the patch embedding, before positions are added.
            keep: (B, M) int64, indices of the patches that enter the blocks, as in MAE; ``patches`` has M tokens then.
            attention: also return CLS's row of the last block.
            drop: (2L, B) scales of the residual branches, see ``drop_scales``; None drops nothing.
            patches: they are read; otherwise the last block may leave them out, with the same CLS up to rounding.

        Raises:
            UsageError: masks, kept patches or attention asked of a model that has none.
        """
        if not self.vit:
            if mask is not None or keep is not None or attention:
                raise UsageError(f"{self.spec.arch} is not a ViT: it has no patch tokens to mask and no CLS attention")
            return Tokens(cls=self.model(images))
        x = self.embed(images, mask, keep)
        self._set_drop(drop)
        blocks = self.model.blocks
        x = through(blocks[:-1], x)
        row = self._cls_attention(blocks[-1], x) if attention else None
        if not patches and self._can_leave_out_patches(blocks[-1]):
            return Tokens(cls=self._pool(self.model.norm(for_cls(blocks[-1], x))), attention=row)
        x = self.model.norm(through(blocks[-1:], x))
        return Tokens(cls=self._pool(x), patches=x[:, self.prefix :], attention=row)

    def _can_leave_out_patches(self, block: Any) -> bool:
        from timm.models.vision_transformer import Block

        plain = isinstance(block, Block) and not self.why_no_attention() and getattr(block.attn, "gate", None) is None
        return plain and block._compiled_call_impl is None  # a compiled block is fast as a whole only

    def last_cls(self, images: Tensor, last: int) -> tuple[Tensor, Tensor | None]:
        """CLS of the last blocks, each after the final norm, and the patches' mean (arXiv:2104.14294, section 4).

        timm's ``forward_intermediates`` computes the same bits, but keeps all tokens of all these blocks.

        Returns:
            (B, L, D) in block order, and (B, D); for a model other than a ViT (B, 1, D) and None.
        """
        if not self.vit:
            return self(images).cls[:, None], None
        x, cls = self.embed(images), []
        self._set_drop(None)
        for index, block in enumerate(self.model.blocks):
            x = block(x)
            if index >= self.depth - last:
                cls.append(self._pool(self.model.norm(x)))
        return torch.stack(cls, 1), self.model.norm(x)[:, self.prefix :].mean(1)

    def walk(self, images: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Yields each block with the tokens that enter it, (B, T, D); a block runs when the next one is asked for."""
        x = self.embed(images)
        self._set_drop(None)
        for index, block in enumerate(self.model.blocks):
            x = self.model.blocks[index - 1](x) if index else x
            yield block, x

    def embed(self, images: Tensor, mask: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """The tokens that enter the first block, with positions: (B, C, H, W) -> (B, prefix + N, D)."""
        x = self.model.patch_embed(images)  # (B, h, w, D)
        if mask is not None:
            x = torch.where(mask.view(*x.shape[:3], 1), self.mask_token.to(x.dtype), x)
        x = self.model._pos_embed(x)
        if keep is not None:
            kept = x[:, self.prefix :].gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
            x = torch.cat([x[:, : self.prefix], kept], 1)
        return self.model.norm_pre(x)

    def attention_row(self, block: Any, x: Tensor, token: int) -> Tensor:
        """Attention from one token to the patches in a block that ``x`` (B, T, D) enters: (B, H, N) float32."""
        x = block.norm1(x)
        q, k = project(block, x, x[:, token : token + 1])
        return rows(block, q, k)[:, :, 0, self.prefix :]

    def _cls_attention(self, block: Any, x: Tensor) -> Tensor:
        if why := self.why_no_attention():
            raise UsageError(f"{why}: CLS attention cannot be read from it")
        return self.attention_row(block, x, 0)

    def _pool(self, x: Tensor) -> Tensor:
        """(B, T, D) after the final norm -> (B, D)."""
        return x[:, 0] if self.has_cls else self.model.forward_head(x, pre_logits=True)

    def _set_drop(self, scales: Tensor | None) -> None:
        if self.drop_rates:
            stochastic_depth.set_scales(self.model.blocks, scales)

    def drop_scales(self, uniforms: Tensor) -> Tensor | None:
        """Scales for ``drop`` from uniform numbers in [0, 1) of shape (2L, B); None where nothing is ever dropped."""
        return stochastic_depth.scales_from(uniforms, self.drop_rates) if self.drop_rates else None

    def info(self, branch: Literal["student", "teacher", "timm"]) -> dict[str, Any]:
        """The content of ``encoder.json``: enough to load the weights with plain timm."""
        mean, std = self.spec.statistics
        return {
            "arch": self.spec.arch,
            "timm_kwargs": self.spec.timm_kwargs(),
            "image_size": self.spec.image_size,
            "width": self.width,
            "mean": list(mean),
            "std": list(std),
            "branch": branch,
            "spec": self.spec.described(),
            "load": "timm.create_model(arch, **timm_kwargs).load_state_dict(safetensors.torch.load_file(FILE))"
            + (f"; then eps = {self.spec.norm_eps:g} in every LayerNorm" if self.spec.norm_eps else ""),
        }

    @staticmethod
    def from_section(section: EncoderSection, views: ViewsSection | None = None) -> "Encoder":
        """A freshly initialised encoder from a recipe's section; ``views`` say how its images are normalised."""
        seen: dict[str, Any] = {} if views is None else {"mean": views.mean, "std": views.std}
        encoder = Encoder(EncoderSpec(**section.model_dump(exclude={"freeze"}), **seen))
        if section.freeze is not None:
            encoder.freeze(section.freeze)
        return encoder

    @staticmethod
    def from_info(info: dict[str, Any]) -> "Encoder":
        """An encoder built from ``encoder.json``, without drop path and without its weights."""
        return Encoder(EncoderSpec(**{**info["spec"], "drop_path": 0.0}))
