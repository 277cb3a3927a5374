"""An encoder into files that plain timm loads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch

from sslkit.encoder.encoder import Encoder
from sslkit.files import atomic, write_json


def save_encoder(
    encoder: Encoder,
    weights_path: Path,
    info_path: Path,
    branch: Literal["student", "teacher", "timm"],
    origins: Mapping[str, Any] | None = None,
) -> None:
    """Write an encoder so that plain timm loads it: ``timm.create_model(arch, **timm_kwargs)``, then strictly.

    The same weights give the same bytes. Each file appears whole or not at all, the weights first. ``origins`` says
    where they come from: other weights that have a part in them, such as ``started_from``, and the ``range`` of values
    of its images; those that are None are left out.
    """
    save_weights(encoder, weights_path)
    write_json(info_path, {**encoder.info(branch), **{name: o for name, o in (origins or {}).items() if o}})


def save_weights(encoder: Encoder, path: Path) -> None:
    """Write an encoder's weights alone, by timm's key names, whole or not at all."""
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.model.state_dict().items()}
    with atomic(path) as handle:
        handle.write(safetensors.torch.save(state, metadata={"format": "pt"}))
