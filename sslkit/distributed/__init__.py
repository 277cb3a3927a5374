"""The process group, and sums over it that carry gradients."""
