"""What a layout of published checkpoints is: how to recognise one, where its encoder is, and what it calls its keys.

A file dropped into this folder is tried by ``--weights FILE`` at once, and named in what is said about the file.
"""

import re
from abc import ABC
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

# DINO's head, and what `heads/dino.py` calls the same tensors; weight normalisation has had two spellings in torch.
HEAD = {
    "last_layer.weight_v": "prototypes",
    "last_layer.parametrizations.weight.original1": "prototypes",
    "last_layer.weight_g": "length",
    "last_layer.parametrizations.weight.original0": "length",
}


class Layout(ABC):
    """The layout of a project's checkpoints.

    Attributes:
        title: of the project, with its paper.
        sign: a regular expression; a file with such a dotted key has this layout. None: whatever no other recognises.
        containers: around the encoder, in the order in which they are opened, as dictionaries or as prefixes of keys.
            Where a file holds both branches, the teacher is the better encoder (arXiv:2104.14294, section 5.1).
    """

    title: ClassVar[str]
    sign: ClassVar[str | None]
    containers: tuple[str, ...] = (
        "teacher",
        "student",
        "state_dict",
        "model",
        "module",
        "_orig_mod",
        "backbone",
        "encoder",
    )

    def recognises(self, keys: Collection[str], about: Mapping[str, Any]) -> bool:
        """Whether a file has the layout.

        Args:
            keys: dotted, of all its tensors.
            about: the file's own description, see ``Checkpoint.about``.
        """
        return self.sign is not None and any(re.search(self.sign, key) for key in keys)

    def timm_name(self, key: str) -> str | None:
        """Timm's name for a key of the encoder, or None for a tensor that timm's encoder does not have."""
        return None if key in ("mask_token", "masked_embed") else key

    def to_timm(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The encoder's tensors under timm's names; override it where tensors are joined, split or moved."""
        named = ((self.timm_name(key), value) for key, value in state.items())
        return {name: value for name, value in named if name is not None}

    def spec(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of ``EncoderSpec`` by the file's own description; those that it does not give are left out."""
        return {}

    def rest(self, tensors: Mapping[str, Tensor], opened: Sequence[str]) -> dict[str, tuple[str, Tensor]]:
        """What a file holds besides the encoder that a method can start from: here DINO's head and the mask token.

        Args:
            tensors: all of the file's, by dotted key.
            opened: the containers around the encoder.

        Returns:
            By the name that methods have for it without its branch (``mask_token``, ``heads.prototypes.mlp.0.weight``,
            ``decoder.embed.weight``): the key in the file and the tensor.
        """
        inside = ".".join([*opened, ""]) if opened else ""
        around = inside.removesuffix("backbone.")
        found = {}
        for key, value in tensors.items():
            if key in (f"{inside}mask_token", f"{inside}masked_embed"):
                found["mask_token"] = (key, value.reshape(1, -1))
            elif key.startswith(f"{around}head.") and around != inside:
                name = key.removeprefix(f"{around}head.")
                found[f"heads.prototypes.{HEAD.get(name, name)}"] = (key, value)
        return found
