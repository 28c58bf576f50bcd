"""Benchmarks of tensors that are computed from others."""
