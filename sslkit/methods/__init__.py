"""How a batch becomes a loss: one file per method; the file name is its name in recipes."""
