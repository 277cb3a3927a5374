"""What ``sslkit export`` and ``sslkit pretrain`` write: timm's names, with a description of how to build the model."""

from collections.abc import Collection, Mapping
from typing import Any

from sslkit.weights.layouts.base import Layout

TIMM = {"img_size": "image_size", "patch_size": "patch_size", "embed_dim": "width", "depth": "depth"}


class SslkitExport(Layout):
    """``encoder.safetensors`` with its ``encoder.json``, ``encoder.pt``, and folders for timm, its hub's own too."""

    title = "an encoder exported by sslkit or timm"
    sign = r"^$"  # no key tells: the description does

    def recognises(self, keys: Collection[str], about: Mapping[str, Any]) -> bool:
        """By the description: the keys are timm's."""
        return "spec" in about or "architecture" in about or {"arch", "timm_kwargs"} <= about.keys()

    def spec(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """The run's own specification, else timm's arguments."""
        if about.get("spec"):
            return {**about["spec"], "drop_path": 0.0}
        arch = about.get("arch") or about.get("architecture")
        if not arch:
            return {}
        given = {**about.get("model_args", {}), **about.get("timm_kwargs", {})}
        size = (about.get("pretrained_cfg") or {}).get("input_size") or [None, None]
        found = {"image_size": size[-1], **{TIMM[k]: v for k, v in given.items() if k in TIMM}}
        found = {key: value[-1] if isinstance(value, list) else value for key, value in found.items()}  # square
        found |= {"heads": given.get("num_heads"), "arch": str(arch).split(".")[0]}
        return {key: value for key, value in found.items() if value is not None}
