"""The one training loop and what it needs: checkpoints, the monitor, several processes."""
