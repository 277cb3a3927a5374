"""Attention maps: sheets, pages and comparisons."""
