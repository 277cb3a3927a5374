"""Fine-tuning the whole encoder with a classifier."""
