"""Encoder weights on disk: reading published layouts, writing our own."""
