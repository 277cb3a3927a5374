"""Results of runs, parsed once for compare, report and status."""
