"""The model card of an exported encoder (Mitchell et al., arXiv:1810.03993): what it is, learnt from what, how good."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOAD = {
    "timm": """
import timm

model = timm.create_model("local-dir:.", pretrained=True).eval()
cls = model(images)  # (B, {width})
""",
    "transformers": """
from transformers import ViTModel

model = ViTModel.from_pretrained(".", add_pooling_layer=False).eval()
cls = model(pixel_values=images).last_hidden_state[:, 0]  # (B, {width})
""",
    "onnx": """
import onnxruntime

session = onnxruntime.InferenceSession("encoder.onnx")
cls = session.run(["cls"], {{"images": images.numpy()}})[0]  # (B, {width}){patches}
""",
    "torchscript": """
import torch

model = torch.jit.load("encoder.torchscript.pt")
cls = model(images)[0]  # (B, {width}){patches}
""",
    "pt": """
import timm, torch

saved = torch.load("encoder.pt", weights_only=True)
model = timm.create_model(saved["arch"], **saved["timm_kwargs"]).eval()
model.load_state_dict(saved["state_dict"])
cls = model(images)  # (B, {width})
""",
}


# The library that hubs are told to load it by; a graph is loaded by a runtime, which has no name there.
LIBRARIES = {"timm": "timm", "pt": "timm", "transformers": "transformers"}


@dataclass(frozen=True)
class Score:
    """One evaluation.

    Attributes:
        name: as a person calls it.
        data: whose val it was judged on.
        top1: percent; None where it is stale, and is not to be told.
        k: of k-NN; None for others.
        images: how many of val were judged; None where that is not known.
        half: half width of the interval, where one was measured, over draws of labelled images.
    """

    name: str
    data: str
    top1: float | None
    k: int | None = None
    images: int | None = None
    half: float | None = None

    def line(self) -> str:
        """In words.

        >>> Score("k-NN", "cifar10", 51.52, k=20, images=10000).line()
        'k-NN (k = 20): top-1 51.5 % on val of cifar10 (10,000 images)'
        """
        name = self.name if self.k is None else f"{self.name} (k = {self.k})"
        if self.top1 is None:
            return f"{name} on val of {self.data}: stale, its inputs changed since; not told here"
        images = "" if self.images is None else f" ({self.images:,} images)"
        half = "" if self.half is None else f" ± {self.half:.1f}"
        return f"{name}: top-1 {self.top1:.1f}{half} % on val of {self.data}{images}"


@dataclass(frozen=True)
class Facts:
    """What the card is made of.

    Attributes:
        name: of the run.
        format: a key of ``LOAD``.
        info: ``encoder.json``.
        vit: whether it is a plain ViT.
        parameters: of the encoder.
        recipe: resolved; empty when there was no training.
        data: the manifest of the training images; may be empty.
        scores: of each evaluation.
        command: of the training.
        versions: of the packages it ran with.
        collapse: the monitor's verdicts at its end.
    """

    name: str
    format: str
    info: Mapping[str, Any]
    vit: bool
    parameters: int
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    scores: Sequence[Score]
    command: str
    versions: Mapping[str, str]
    collapse: Mapping[str, str]


def render(facts: Facts) -> str:
    """The card as Markdown, with the front matter that model hubs read."""
    parts = [_front(facts), f"# {facts.name}\n", _what(facts), "## Use\n", _use(facts)]
    parts += ["## How good\n", _results(facts), "## How it was trained\n", _training(facts)]
    return "\n".join(parts)


def _front(facts: Facts) -> str:
    library = LIBRARIES.get(facts.format)
    tags = ["self-supervised-learning", "sslkit", facts.info["arch"]]
    named = [f"library_name: {library}"] if library else []
    lines = ["---", *named, "pipeline_tag: image-feature-extraction", "tags:"]
    return "\n".join([*lines, *(f"- {tag}" for tag in tags), "---", ""])


def _what(facts: Facts) -> str:
    info, sizes = facts.info, facts.info["timm_kwargs"]
    shape = ", ".join(
        f"{word} {sizes[key]}"
        for key, word in (("embed_dim", "width"), ("depth", "depth"), ("num_heads", "heads"), ("patch_size", "patch"))
        if key in sizes
    )
    built = f"timm's `{info['arch']}`{f' with {shape}' if shape else ''}"
    learnt = _method(facts.recipe)
    return (
        f"An image encoder: {built}, {facts.parameters:,} parameters, for images of {info['image_size']} x "
        f"{info['image_size']} pixels. {learnt} These are the weights of the {info['branch']}. It gives features; "
        f"it has no classifier.\n"
    )


def _method(recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return "How it was trained is not recorded."
    method, objectives = recipe["method"]["name"], recipe.get("objectives") or {}
    named = " + ".join(objectives) if method == "joint_embedding" else method
    mask = (recipe.get("mask") or {}).get("strategy")
    epochs = f"{recipe['train']['epochs']:g} epoch{'s' * (recipe['train']['epochs'] != 1)}"
    return f"Trained by {named}{f' with {mask} masks' if mask else ''} for {epochs}."


def _use(facts: Facts) -> str:
    info = facts.info
    patches = "; patches: (B, N, D)" if facts.vit else ""
    size, mean, std = info["image_size"], tuple(info["mean"]), tuple(info["std"])
    prepare = (
        "```python\n"
        "import torch\n\n"
        f"pixels = torch.rand(2, 3, {size}, {size})  # yours, in 0 ... 1: shorter side resized, centre cut out\n"
        f"mean, std = torch.tensor({mean}), torch.tensor({std})\n"
        "images = (pixels - mean[:, None, None]) / std[:, None, None]\n"
        "```\n"
    )
    load = LOAD[facts.format].format(width=info["width"], patches=patches).strip()
    fixed = "The graph takes batches of any size, and images of this size only.\n"
    graph = f"\n{fixed}" if facts.format in ("onnx", "torchscript") else ""
    return f"{prepare}\n```python\n{load}\n```\n{graph}"


def _results(facts: Facts) -> str:
    lines = [f"- {score.line()}" for score in facts.scores]
    lines = lines or ["Not measured."]
    if facts.collapse:
        verdicts = "; ".join(f"{name}: {kind}" for name, kind in facts.collapse.items())
        lines.append(f"- the monitor's verdict at the end of the training: {verdicts}")
    return "\n".join([*lines, ""])


def _training(facts: Facts) -> str:
    data, lines = facts.data, []
    if data:
        images = data.get("splits", {}).get("train", {}).get("samples", "?")
        lines.append(f"- data: source `{data.get('source')}`, {images} images, {len(data.get('classes', []))} classes; "
                     f"fingerprint `{str(data.get('fingerprint'))[:16]}`")  # fmt: skip
    if facts.command:
        lines.append(f"- command: `{facts.command}`")
    if facts.versions:
        lines.append("- versions: " + ", ".join(f"{name} {number}" for name, number in facts.versions.items()))
    lines.append("- licence: that of the images and of the person who trained it; not stated here")
    recipe = f"\n```json\n{json.dumps(facts.recipe, indent=1)}\n```\n" if facts.recipe else ""
    return "\n".join([*lines, recipe])
