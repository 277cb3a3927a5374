"""Judging frozen features."""
