"""What happens to each crop: one file per augmentation; the file name is the key of its probability in recipes."""
