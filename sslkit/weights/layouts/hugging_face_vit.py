"""Hugging Face transformers' ``ViTModel``, alone or below a task's head (``vit.*``); sslkit's export for it, too."""

from sslkit.weights.hugging_face import HuggingFace


class HuggingFaceVit(HuggingFace):
    """A plain ViT."""

    title = "Hugging Face ViTModel"
    sign = r"(^|\.)embeddings\.patch_embeddings\.projection\.weight$"
    but = r"\.layer_scale1\.lambda1$|(^|\.)decoder\.decoder_embed\."
    models = ("vit", "vit_msn", "dpt", "")
    family = "vit"
