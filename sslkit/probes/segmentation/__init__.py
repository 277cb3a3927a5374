"""Segmentation from attention and patch tokens."""
