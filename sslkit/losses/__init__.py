"""Pure loss functions that several objectives share."""
