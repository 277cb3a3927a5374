"""The report's facts and tables."""
