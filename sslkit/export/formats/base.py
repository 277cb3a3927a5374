"""An export format: writes an encoder for another library, and shows the code that loads it there.

Every file in this folder is a choice of ``sslkit export --format``.
"""

import copy
import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from sslkit.encoder.encoder import Encoder
from sslkit.errors import UsageError


class ExportFormat(ABC):
    """Writes an encoder so that another library loads it back and gives the same features.

    Attributes:
        usage: Python that loads the export from the current folder and makes ``cls`` (B, D) of ``images``; ``{width}``
            and ``{patches}`` are replaced, other braces are doubled.
        note: a sentence below the usage; may be empty.
        library: the name by which model hubs know the library; None for graphs, which no library loads by its name.
        requires: packages that write the format.
        extra: of sslkit, which installs them.
    """

    usage: ClassVar[str]
    note: ClassVar[str] = ""
    library: ClassVar[str | None] = None
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    @abstractmethod
    def write(self, encoder: Encoder, folder: Path) -> None:
        """Write an encoder in eval mode into an empty folder.

        Raises:
            UsageError: the library has no such architecture.
        """

    def check_installed(self) -> None:
        """Refuse to write without the packages.

        Raises:
            UsageError: one is missing.
        """
        missing = [name for name in self.requires if importlib.util.find_spec(name) is None]
        if missing:
            raise UsageError(f"this format requires {' and '.join(missing)}: pip install 'sslkit[{self.extra}]'")


class GraphFormat(ExportFormat):
    """A graph of the encoder at its own image size, which runs without timm."""

    note: ClassVar[str] = "The graph takes batches of any size, and images of this size only."


class GraphOutputs(nn.Module):
    """What a graph computes: (B, C, S, S) -> cls (B, D), and of a ViT patches (B, N, D), both after the final norm.

    Args:
        encoder: copied to the CPU.
    """

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = copy.deepcopy(encoder).cpu().eval().requires_grad_(False)
        self.names = ["cls", "patches"] if encoder.vit else ["cls"]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        tokens = self.encoder(images)
        return (tokens.cls,) if tokens.patches is None else (tokens.cls, tokens.patches)

    def example(self) -> Tensor:
        """Images to trace with; two, as a batch of one may be taken for a constant."""
        size = self.encoder.spec.image_size
        return torch.zeros(2, self.encoder.spec.in_channels, size, size)
