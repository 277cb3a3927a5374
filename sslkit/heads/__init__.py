"""Heads: what sits between an encoder and an objective."""
