"""Results of runs, parsed once for compare, report and the model card."""
