"""Photos and masks as people have them on disk: which belongs to which, and what the values of a mask mean."""
