"""Loggers, one file for each program that shows experiments: ``pretrain --log NAME``."""
