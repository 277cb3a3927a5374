"""What the pixels of a mask file stand for: one file for each way of writing classes."""
