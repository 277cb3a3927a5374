"""Export formats: one file per library."""
