"""Datasets of photos with masks: one file for each way in which they are laid out."""
