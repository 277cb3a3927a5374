"""One loss term per file; the file name is its name in recipes."""
