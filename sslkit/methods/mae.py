"""MAE: an encoder sees a quarter of an image, a small decoder paints the rest (arXiv:2111.06377).

    crop -> patches -> encoder(CLS, visible patches) -> mask tokens in the gaps -> decoder -> pixels
    loss = mean over removed patches of |prediction - target|^2 / (P x P x C)

The target is the patch's pixels minus their mean, divided by their standard deviation. Removed patches never enter the
encoder, which makes a step cheap and needs masks that hide the same number of patches of every crop. The decoder is
discarded after training. With ``mask.strategy: attention`` a moving average of the encoder, which sees the whole
crop, says what to hide (AttMask, arXiv:2203.12719).
"""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sslkit import ema
from sslkit.data.batch import Batch
from sslkit.data.normalise import normalise, unnormalise
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.recompute import through
from sslkit.encoder.sincos_positions import fix_positions, sincos_positions
from sslkit.errors import UsageError
from sslkit.masks.base import Masking, Masks
from sslkit.methods.base import DataFacts, Losses, Method, Preview, augmented, drop_scales, masked_on_object, takes_no
from sslkit.recipe.schema import Recipe
from sslkit.recipe.sections import Strict
from sslkit.schedules import Moment

SHOWN = 0.2  # of the range from black to white: a standard deviation in pictures of the target
EPSILON = 1e-6  # added to a patch's variance: patches of one colour have none


class DecoderSection(Strict):
    """The decoder: narrower and shallower than the encoder, and not exported."""

    width: int = Field(default=512, gt=0, le=65536)
    depth: int = Field(default=8, ge=0, le=1000)  # blocks
    heads: int = Field(default=16, gt=0, le=1024)


class MaskedAutoencoder(Method):
    """Encoder of visible patches, decoder of all, and a teacher where masks ask for its attention."""

    class Config(Method.Config):
        """Keys of ``method: {name: mae, ...}``."""

        decoder: DecoderSection = DecoderSection()
        normalise: bool = True  # the target, per patch

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None):
        super().__init__(recipe, facts)
        assert isinstance(recipe.method, self.Config)
        self.config = recipe.method
        self.masking = _checked(recipe)
        self.student = Encoder.from_section(recipe.encoder, recipe.views)
        if not self.student.vit:
            raise UsageError(
                f"mae needs patch tokens, which {recipe.encoder.arch} does not have: choose a ViT with --arch"
            )
        fix_positions(self.student)
        self.student.mask_token.requires_grad_(False)  # hidden patches do not enter this encoder
        size = recipe.views.global_.size or recipe.encoder.image_size
        grid = self.student.grid(size, size)
        _check_ratio(self.masking, grid[0] * grid[1])
        sizes = self.student.width, self.student.patch_size, grid
        self.decoder = Decoder(*sizes, self.config.decoder, self.student.spec.in_channels)
        self.apply(_initialise)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False) if recipe.teacher else None
        self.average = self.teacher and ema.MovingAverage(self.teacher, self.student)

    def forward(self, batch: Batch, at: Moment) -> Losses:
        """One step of the method, up to the loss."""
        views = augmented(batch)[0]
        images, masks = views.flatten(0, 1), self._draw_masks(batch, views, at)
        value = loss(self._predict(batch, images, masks, at), self._target(images), masks.mask)
        # No spread of L2-normalised features: MAE's are not centred, and look alike without being so.
        return Losses(
            value, {"loss": value.detach(), **masked_on_object(masks, batch.coverage(self.student.patch_size))}
        )

    @torch.no_grad()
    def after_step(self, statistics: Mapping[str, Tensor], at: Moment) -> None:
        """Move the teacher."""
        if self.average is not None and self.recipe.teacher:
            self.average.follow(self.recipe.teacher.momentum, at)

    def preview(self, batch: Batch, at: Moment) -> Preview:
        """Crops, what is removed of them, and the pattern of each patch where that is the target."""
        views = augmented(batch)[0]
        pictures, masks = {"global": views}, self._draw_masks(batch, views, at)
        if self.config.normalise:
            # Of the colours that are seen: the target's channels have an offset each, by their normalisation, which
            # would make a patch of little contrast as blue as ImageNet's mean is yellow.
            pixels = unnormalise(views, batch.mean, batch.std) / 255
            patterns = normalised(patchify(pixels.flatten(0, 1), self.student.patch_size))
            shown = unpatchify(255 * (0.5 + SHOWN * patterns), self.student.patch_size)
            pictures["target"] = normalise(shown.view_as(views), batch.mean, batch.std)
        return Preview(pictures, masks.mask.unflatten(0, views.shape[:2]))

    @torch.no_grad()
    def reconstruct(self, batch: Batch, at: Moment) -> tuple[Tensor, Tensor, Tensor]:
        """What the model predicts for the patches that it does not see.

        Returns:
            Of n crops, view by view: (n, C, S, S) the crops, (n, N) bool what was removed, and (n, C, S, S) the crops
            with removed patches replaced by the prediction. The model predicts normalised patches; here they get the
            mean and standard deviation of the true ones, which it does not know. Pixels are
            normalised.
        """
        views = augmented(batch)[0]
        images, masks = views.flatten(0, 1), self._draw_masks(batch, views, at)
        painted = self._predict(batch, images, masks, at).float()
        patches = patchify(images, self.student.patch_size)
        if self.config.normalise:
            painted = denormalised(painted, patches)
        painted = torch.where(masks.mask[..., None], painted, patches)
        return images, masks.mask, unpatchify(painted, self.student.patch_size)

    def exported(self) -> tuple[Encoder, Literal["student", "teacher"]]:
        """The encoder that was trained; a teacher only says what to hide."""
        return self.student, "student"

    # The parts of a step.

    def _draw_masks(self, batch: Batch, views: Tensor, at: Moment) -> Masks:
        """(V, B, 3, S, S) -> masks of V x B crops, the same number of patches in each."""
        attention = None
        if self.masking.needs_attention and self.teacher is not None:
            with torch.no_grad():
                rows = self.teacher(views.flatten(0, 1), attention=True).attention
            attention = rows.mean(1)
        grid, seed = self.student.grid(*views.shape[-2:]), self.recipe.train.seed
        samples, objects = batch.samples.numpy(), batch.coverage(self.student.patch_size)
        masks = self.masking.draw_exact(seed, at.step, samples, len(views), grid, attention, objects)
        return masks.to(views.device)

    def _predict(self, batch: Batch, images: Tensor, masks: Masks, at: Moment) -> Tensor:
        """(n, N, P x P x C) predictions of all patches from the visible ones."""
        keep = visible(masks)
        # The paper uses no drop path; a recipe may.
        drop = drop_scales(self.student, batch, len(batch.crops[0]), at, self.recipe.train.seed)
        tokens = self.student(images, keep=keep, drop=drop)
        return self.decoder(tokens.cls, tokens.patches, keep)

    def _target(self, images: Tensor) -> Tensor:
        """(n, C, S, S) -> (n, N, P x P x C)."""
        patches = patchify(images, self.student.patch_size)
        return normalised(patches) if self.config.normalise else patches


class Decoder(nn.Module):
    """From tokens of visible patches to pixels of all, on a grid of patch rows and columns."""

    def __init__(
        self, encoder_width: int, patch_size: int, grid: tuple[int, int], section: DecoderSection, channels: int = 3
    ):
        from timm.models.vision_transformer import Block

        super().__init__()
        width, norm = section.width, partial(nn.LayerNorm, eps=1e-6)
        if width % section.heads:
            raise UsageError(f"method.decoder.heads {section.heads} does not divide its width {width}")
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(sincos_positions(grid, width), requires_grad=False)
        blocks = (Block(width, section.heads, qkv_bias=True, norm_layer=norm) for _ in range(section.depth))  # type: ignore[arg-type]
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(width)
        self.predict = nn.Linear(width, patch_size**2 * channels)

    def forward(self, cls: Tensor, patches: Tensor, keep: Tensor) -> Tensor:
        """(n, D), (n, M, D) and (n, M) indices of these M patches -> (n, N, P x P x C)."""
        # CLS takes part, without a position: no other loss would reach it.
        x = self.embed(torch.cat([cls[:, None], patches], 1))
        gaps = self.mask_token.to(x.dtype).expand(len(x), len(self.positions), -1)
        places = keep[..., None].expand(-1, -1, x.shape[-1])
        every = gaps.scatter(1, places, x[:, 1:]) + self.positions
        x = through(self.blocks, torch.cat([x[:, :1].to(every.dtype), every], 1))
        return self.predict(self.norm(x[:, 1:]))


# Pure functions.


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, 3, H, W) -> (B, N, P x P x C): patches row by row, pixels of one row by row, the channels of a pixel last."""
    channels, rows, columns = images.shape[1], images.shape[2] // patch_size, images.shape[3] // patch_size
    cut = images.reshape(-1, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(len(images), rows * columns, -1)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """The inverse of ``patchify`` for square images."""
    side = round(patches.shape[1] ** 0.5)
    cut = patches.view(len(patches), side, side, patch_size, patch_size, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, side * patch_size, side * patch_size)


def normalised(patches: Tensor) -> Tensor:
    """(B, N, P x P x C) -> each patch minus its mean, over its standard deviation, all channels together."""
    mean, std = moments(patches)
    return (patches - mean) / std


def denormalised(values: Tensor, patches: Tensor) -> Tensor:
    """The inverse of ``normalised``: (B, N, P x P x C) values times ``patches``' deviation, plus their mean."""
    mean, std = moments(patches)
    return values * std + mean


def moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, (B, N, 1); the variance is unbiased, as in the paper's code."""
    variance, mean = torch.var_mean(patches, -1, keepdim=True, correction=1)
    return mean, (variance + EPSILON).sqrt()


def loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error per pixel and channel, averaged over removed patches: 0-dim, float32 at least.

    Prediction and target are (B, N, P x P x C), the mask (B, N) bool or 0 and 1, 1 = removed; at least one is.
    """
    error = (prediction.float() - target.float()).square().mean(-1)
    return (error * mask).sum() / mask.sum()


def visible(masks: Masks) -> Tensor:
    """(n, M) int64 on the device: what masks of one count leave, in rising order; M is known on the host."""
    shown = masks.mask.shape[1] - int(masks.counts[0])
    return masks.mask.to(torch.uint8).argsort(dim=1, stable=True)[:, :shown]


def _initialise(module: nn.Module) -> None:
    """Xavier-uniform linear layers, the patch embedding being one of them, and small CLS and mask tokens."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.data.flatten(1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Decoder):
        nn.init.normal_(module.mask_token, std=0.02)
    elif isinstance(module, Encoder) and module.has_cls:
        nn.init.normal_(module.model.cls_token, std=0.02)


# Contradictions, before any data is read.


def _checked(recipe: Recipe) -> Masking:
    """The recipe's masking, if the recipe is one for this method."""
    takes_no(recipe, "heads", "objectives", "views.local")
    masking = recipe.mask
    if not isinstance(masking, Masking):
        raise UsageError("mae needs a mask: add `mask: {strategy: random, ratio: [0.75, 0.75], ratio_per: step, ...}`")
    if masking.probability < 1:
        raise UsageError(f"mae masks every crop: mask.probability must be 1, not {masking.probability:g}")
    if masking.ratio_per == "crop":
        raise UsageError(
            "mae needs the same number of visible patches in every crop: mask.ratio_per must be step, not crop"
        )
    if not masking.needs_attention:
        takes_no(recipe, "teacher")  # it would only say what to hide
    elif recipe.teacher is None:
        raise UsageError(f"mask.strategy {masking.strategy} needs a teacher's attention: add a teacher")
    return masking


def _check_ratio(masking: Masking, patches: int) -> None:
    low, high = (int(ratio * patches) for ratio in masking.ratio)
    if low < 1 or high >= patches:
        raise UsageError(
            f"mask.ratio {list(masking.ratio)} removes between {low} and {high} of {patches} patches: it must "
            f"remove some and leave some"
        )
