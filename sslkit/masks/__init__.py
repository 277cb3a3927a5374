"""What the student does not see: one file per strategy; the file name is its name in recipes."""
