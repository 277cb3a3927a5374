"""The training loop that all methods share, and what it needs: checkpoints, the log, the monitor."""
