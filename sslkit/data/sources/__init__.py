"""Where images come from: one file per source; the file name is the name on the command line."""
