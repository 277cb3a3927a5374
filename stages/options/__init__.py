"""Command-line options that stages share."""
