"""Frozen features: computing them, storing them, reading them."""
