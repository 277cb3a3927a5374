"""Formats that other libraries load, one file each."""
