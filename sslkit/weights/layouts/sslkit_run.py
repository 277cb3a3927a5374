"""Sslkit's own training checkpoints, ``checkpoint.pt`` of a run: encoder, heads, decoder, predictors, centres."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sslkit.weights.layouts.base import Layout

ENCODER = re.compile(r"^(student|teacher)?\.?(encoder\.)?model\.")


class SslkitRun(Layout):
    """timm's names below ``method``: both branches of a joint embedding, or one encoder."""

    title = "sslkit's training checkpoint"
    sign = r"^method\.(student|teacher|encoder)\."

    def recognises(self, keys: Any, about: Mapping[str, Any]) -> bool:
        """By the keys; the branch that counts is the one that the run exports, by its own ``encoder.json``.

        Without that file, the teacher of a joint embedding counts. Other teachers lie below ``teacher.model``: MAE's
        only says what to hide, and data2vec's is not what is fine-tuned.
        """
        joint = any(key.startswith("method.teacher.encoder.") for key in keys)
        exported = about.get("branch", "teacher" if joint else "student")
        first, second = ("teacher", "student") if exported == "teacher" else ("student", "teacher")
        self.containers = ("method", first, second, "encoder", "model")
        return super().recognises(keys, about)

    def spec(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """That of the run's ``encoder.json``."""
        return {**about.get("spec", {}), "drop_path": 0.0} if about.get("spec") else {}

    def rest(self, tensors: Mapping[str, Tensor], opened: Sequence[str]) -> dict[str, tuple[str, Tensor]]:
        """All of the method but its encoders; of heads those of the branch whose encoder is used."""
        branch, found = f"{opened[1]}.", {}
        for key, value in tensors.items():
            name = key.removeprefix("method.")
            if name == key or ENCODER.match(name):
                continue
            part = name.removeprefix(branch).removeprefix("encoder.")
            if not part.startswith(("student.", "teacher.")):
                found[part] = (key, value)
        return found
