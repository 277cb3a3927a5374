"""Self-supervised Vision Transformers: tensors in, tensors out. The command line is in ``stages``."""

__version__ = "0.1.0"
