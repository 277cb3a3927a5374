"""Images on disk, subsets of them, and the views that a model sees."""
