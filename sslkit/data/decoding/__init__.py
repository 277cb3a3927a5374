"""What is checked before the bytes of an image go to a decoder that would not survive damage."""
