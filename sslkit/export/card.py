"""The model card of an exported encoder (arXiv:1810.03993): what it is, how it was trained, and how good it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import ModelCardData

from sslkit.export.formats.base import ExportFormat


@dataclass(frozen=True)
class Score:
    """One evaluation."""

    name: str
    data: str  # name of the data, of which val was evaluated
    top1: float | None  # percent; None if it is stale
    k: int | None = None  # of k-NN; None for others
    images: int | None = None  # how many of val were evaluated; None if unknown
    half: float | None = None  # half width of the interval over draws of labelled images, if there is one

    def line(self) -> str:
        """The score in words.

        >>> Score("k-NN", "cifar10", 51.52, k=20, images=10000).line()
        'k-NN (k = 20): top-1 51.5 % on val of cifar10 (10,000 images)'
        """
        name = self.name if self.k is None else f"{self.name} (k = {self.k})"
        if self.top1 is None:
            return f"{name} on val of {self.data}: stale, its inputs changed since; not stated here"
        images = "" if self.images is None else f" ({self.images:,} images)"
        half = "" if self.half is None else f" ± {self.half:.1f}"
        return f"{name}: top-1 {self.top1:.1f}{half} % on val of {self.data}{images}"


@dataclass(frozen=True)
class CardFacts:
    """The content of a card."""

    name: str  # of the run
    format: ExportFormat
    info: Mapping[str, Any]  # ``encoder.json``
    vit: bool  # whether it is a plain ViT
    parameters: int
    recipe: Mapping[str, Any]  # resolved; empty if it was not trained here
    data: Mapping[str, Any]  # the manifest of the training images, and their ``name``; may be empty
    scores: Sequence[Score]
    command: str  # of the training run
    versions: Mapping[str, str]  # of the packages it ran with
    collapse: Mapping[str, str]  # the monitor's verdicts at its end


def render(facts: CardFacts) -> str:
    """The card as Markdown, with the front matter that model hubs read."""
    parts = [_front(facts), f"# {facts.name}\n", _what(facts), "## Use\n", _use(facts)]
    parts += ["## Evaluation\n", _results(facts), "## Training\n", _training(facts)]
    return "\n".join(parts)


def _front(facts: CardFacts) -> str:
    tags = ["self-supervised-learning", "sslkit", facts.info["arch"]]
    data = ModelCardData(library_name=facts.format.library, pipeline_tag="image-feature-extraction", tags=tags)
    return f"---\n{data}\n---\n"


def _what(facts: CardFacts) -> str:
    info, sizes = facts.info, facts.info["timm_kwargs"]
    shape = ", ".join(
        f"{word} {sizes[key]}"
        for key, word in (("embed_dim", "width"), ("depth", "depth"), ("num_heads", "heads"), ("patch_size", "patch"))
        if key in sizes
    )
    built = f"timm's `{info['arch']}`{f' with {shape}' if shape else ''}"
    return (
        f"An image encoder: {built}, {facts.parameters:,} parameters, for images of {info['image_size']} x "
        f"{info['image_size']} pixels. {_method(facts.recipe)} These are the weights of the {info['branch']}. It gives "
        f"features; it has no classifier.\n"
    )


def _method(recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return "How it was trained is not recorded."
    method, objectives = recipe["method"]["name"], recipe.get("objectives") or {}
    named = " + ".join(objectives) if method == "joint_embedding" else method
    mask = (recipe.get("mask") or {}).get("strategy")
    epochs = f"{recipe['train']['epochs']:g} epoch{'s' * (recipe['train']['epochs'] != 1)}"
    return f"Trained by {named}{f' with {mask} masks' if mask else ''} for {epochs}."


def _use(facts: CardFacts) -> str:
    info = facts.info
    patches = "; patches: (B, N, D)" if facts.vit else ""
    size, mean, std = info["image_size"], tuple(info["mean"]), tuple(info["std"])
    prepare = (
        "```python\n"
        "import torch\n\n"
        f"pixels = torch.rand(2, {len(mean)}, {size}, {size})  # in [0, 1]: shorter side resized, centre cut out\n"
        f"mean, std = torch.tensor({mean}), torch.tensor({std})\n"
        "images = (pixels - mean[:, None, None]) / std[:, None, None]\n"
        "```\n"
    )
    load = facts.format.usage.format(width=info["width"], patches=patches).strip()
    note = f"\n{facts.format.note}\n" if facts.format.note else ""
    return f"{prepare}\n```python\n{load}\n```\n{note}"


def _results(facts: CardFacts) -> str:
    lines = [f"- {score.line()}" for score in facts.scores]
    lines = lines or ["Not evaluated."]
    if facts.collapse:
        verdicts = "; ".join(f"{name}: {kind}" for name, kind in facts.collapse.items())
        lines.append(f"- the monitor's verdict at the end of training: {verdicts}")
    return "\n".join([*lines, ""])


def _training(facts: CardFacts) -> str:
    data, lines = facts.data, []
    if data:
        images = data.get("splits", {}).get("train", {}).get("samples", "?")
        name = data.get("name", data.get("source"))
        lines.append(f"- data: {name}, {images} images, {len(data.get('classes', []))} classes; "
                     f"fingerprint `{str(data.get('fingerprint'))[:16]}`")  # fmt: skip
    if facts.command:
        lines.append(f"- command: `{facts.command}`")
    if facts.versions:
        lines.append("- versions: " + ", ".join(f"{name} {number}" for name, number in facts.versions.items()))
    lines.append("- licence: up to the owners of the images and whoever trained it; not stated here")
    recipe = f"\n```json\n{json.dumps(facts.recipe, indent=1)}\n```\n" if facts.recipe else ""
    return "\n".join([*lines, recipe])
