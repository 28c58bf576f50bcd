"""Tensors, files, manifests, bases, reports: what turns a file into frames and back."""
