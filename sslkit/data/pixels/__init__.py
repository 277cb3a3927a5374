"""From the values in an image file to uint8 channels: size limits, arrays and wide TIFFs, ranges, channels."""
