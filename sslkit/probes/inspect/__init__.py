"""Measurements that explain an encoder rather than score it."""
