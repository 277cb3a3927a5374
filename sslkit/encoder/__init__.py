"""A timm ViT seen as tokens, and its attention."""
