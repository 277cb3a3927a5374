"""timm: ``config.json`` and ``model.safetensors``, as its hub keeps them."""

import copy
from pathlib import Path

import timm

from sslkit.data.evaluation_crop import CROP_RATIO, SMALLEST_CROPPED
from sslkit.encoder.encoder import Encoder
from sslkit.export.formats.base import ExportFormat


class TimmFolder(ExportFormat):
    """A folder for ``timm.create_model("local-dir:FOLDER", pretrained=True)``."""

    library = "timm"
    usage = """
import timm

model = timm.create_model("local-dir:.", pretrained=True).eval()
cls = model(images)  # (B, {width})
"""

    def write(self, encoder: Encoder, folder: Path) -> None:
        """Write the weights, and a configuration with what the evaluation crop and normalisation are."""
        model = copy.deepcopy(encoder.model)
        size, (mean, std) = encoder.spec.image_size, encoder.spec.statistics
        # The architecture's own configuration says where timm's weights are; these are others.
        model.pretrained_cfg = {
            **{k: model.pretrained_cfg[k] for k in ("architecture", "first_conv", "classifier")},
            "interpolation": "bicubic",
            "input_size": (encoder.spec.in_channels, size, size),
            "fixed_input_size": False,
            "crop_pct": CROP_RATIO if size >= SMALLEST_CROPPED else 1.0,
            "mean": mean,
            "std": std,
            "num_classes": 0,
        }
        arguments = {k: v for k, v in encoder.spec.timm_kwargs().items() if k != "num_classes"}
        timm.models.save_for_hf(model, str(folder), model_args=arguments, safe_serialization=True)
