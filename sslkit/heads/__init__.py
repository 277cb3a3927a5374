"""Heads, between an encoder and an objective: one file per kind; the file name is its `kind` in recipes."""
