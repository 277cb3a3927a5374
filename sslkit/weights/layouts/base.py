"""What a layout of published checkpoints is: how to recognise one, where its encoder lies, and what it calls its keys.

A file dropped into this folder is tried by ``--weights FILE`` at once, and named in what is said about the file.
"""

import re
from abc import ABC
from collections.abc import Collection, Mapping
from typing import ClassVar

from torch import Tensor


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
    containers: ClassVar[tuple[str, ...]] = (
        "teacher",
        "student",
        "state_dict",
        "model",
        "module",
        "_orig_mod",
        "backbone",
        "encoder",
    )

    def recognises(self, keys: Collection[str]) -> bool:
        """Whether a file with these dotted keys has the layout."""
        return self.sign is not None and any(re.search(self.sign, key) for key in keys)

    def timm_name(self, key: str) -> str | None:
        """Timm's name for a key of the encoder, or None for a tensor that timm's encoder does not have."""
        return None if key in ("mask_token", "masked_embed") else key

    def to_timm(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The encoder's tensors under timm's names; override it where tensors are joined, split or moved."""
        named = ((self.timm_name(key), value) for key, value in state.items())
        return {name: value for name, value in named if name is not None}
