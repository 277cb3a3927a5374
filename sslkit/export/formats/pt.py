"""A single ``torch.save`` file: a state dict with timm's names, and what builds the model."""

from pathlib import Path

import torch

from sslkit.encoder.encoder import Encoder
from sslkit.export.formats.base import ExportFormat
from sslkit.files import atomic


class PtFile(ExportFormat):
    """``encoder.pt`` for ``torch.load(..., weights_only=True)``."""

    library = "timm"
    usage = """
import timm, torch

saved = torch.load("encoder.pt", weights_only=True)
model = timm.create_model(saved["arch"], **saved["timm_kwargs"]).eval()
model.load_state_dict(saved["state_dict"])
cls = model(images)  # (B, {width})
"""

    def write(self, encoder: Encoder, folder: Path) -> None:
        """Write the file."""
        info = encoder.info("timm")
        state = {key: value.detach().cpu().contiguous() for key, value in encoder.model.state_dict().items()}
        about = {key: info[key] for key in ("arch", "timm_kwargs", "image_size", "mean", "std")}
        with atomic(folder / "encoder.pt") as handle:
            torch.save({**about, "state_dict": state}, handle)
