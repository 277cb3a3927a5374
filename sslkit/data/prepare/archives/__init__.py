"""Folders and archives as files with random access, each kind in its own file; ``opening`` tells which it is."""
