"""Panels of the training log, one file for each topic: `sslkit curves` and the report draw all that are here."""
