"""What stages read: an encoder, features, images, masks, a method."""
