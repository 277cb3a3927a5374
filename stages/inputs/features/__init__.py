"""What evaluations of extracted features read: the features, their labels, and the images that they are of."""
