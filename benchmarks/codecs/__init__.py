"""Single tensors: size and speed of the codecs beside their peers."""
