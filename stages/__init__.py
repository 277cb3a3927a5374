"""The pipeline: one file per subcommand. The only code that knows a run directory."""
