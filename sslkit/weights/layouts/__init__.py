"""Layouts of published checkpoints, one file each."""
