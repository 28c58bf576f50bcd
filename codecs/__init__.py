"""Lossless coding of one tensor at a time: bytes to a self-describing frame and back."""
