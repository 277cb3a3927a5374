"""Optimizers: one file each; the file name is its name in recipes."""
