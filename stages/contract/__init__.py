"""What every stage obeys: declaration, run directory, lock and record."""
