"""TorchScript, traced at the encoder's own image size."""

import warnings
from pathlib import Path

import torch

from sslkit.encoder.encoder import Encoder
from sslkit.export.formats.base import GraphFormat, GraphOutputs
from sslkit.files import atomic


class TorchScriptGraph(GraphFormat):
    """``encoder.torchscript.pt`` for ``torch.jit.load``."""

    usage = """
import torch

model = torch.jit.load("encoder.torchscript.pt")
cls = model(images)[0]  # (B, {width}){patches}
"""

    def write(self, encoder: Encoder, folder: Path) -> None:
        """Trace and write the graph."""
        outputs = GraphOutputs(encoder)
        with torch.no_grad(), warnings.catch_warnings():
            # TorchScript is deprecated in torch, and the trace fixes the grid, as the card says.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(outputs, outputs.example())
            with atomic(folder / "encoder.torchscript.pt") as handle:
                torch.jit.save(traced, handle)
