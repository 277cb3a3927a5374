"""What the training loop asks of a method."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from sslkit.data.views import Batch
from sslkit.encoder import Encoder
from sslkit.recipe import Recipe
from sslkit.schedules import Moment


@dataclass(frozen=True)
class Losses:
    """What a method made of a batch.

    Attributes:
        loss: 0-dim with gradient.
        metrics: 0-dim tensors without gradient, to be logged.
        statistics: what ``after_step`` needs, averaged by the loop over micro-batches and processes.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """How a batch becomes a loss. Parameters that require a gradient are the optimizer's."""

    def __init__(self, recipe: Recipe):
        """Build everything the recipe asks for, or raise ``UsageError`` for what contradicts itself."""
        super().__init__()
        self.recipe = recipe

    def suit_device(self, device: torch.device, compile_blocks: Literal["auto", "on", "off"]) -> None:
        """Attention that trains fast on a CPU; compiled transformer blocks where that pays, on CUDA."""
        compiles = compile_blocks == "on" or (compile_blocks == "auto" and device.type == "cuda")
        for module in self.modules():
            if isinstance(module, Encoder) and device.type == "cpu":
                module.unfuse_attention()
            # Block by block: short to compile, and one piece of code for all blocks of a shape.
            if isinstance(module, Block) and compiles:
                module.compile()

    @abstractmethod
    def forward(self, batch: Batch, at: Moment) -> Losses:
        """The loss of one micro-batch, already on the device."""

    def after_step(self, statistics: Mapping[str, Tensor], at: Moment) -> None:
        """Move what does not move by gradient: the teacher, centres. Called once after each optimizer step."""

    def frozen_parameters(self, at: Moment) -> Iterable[nn.Parameter]:
        """Parameters that get no gradient at this moment, taken away after the clipping so that none decays."""
        return ()

    @abstractmethod
    def preview(self, batch: Batch, at: Moment) -> tuple[list[Tensor], Tensor | None]:
        """What the model sees: for each group of views (V, B, 3, S, S), and the masks (V, B, N) of the first group."""

    @abstractmethod
    def exported(self) -> tuple[Encoder, Literal["student", "teacher"]]:
        """The encoder that is written out, and which branch it is."""
