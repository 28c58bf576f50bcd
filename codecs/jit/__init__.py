"""Compiles kernels at their first use, and keeps what was compiled where it is found again.

Imports nothing else of ours.

- **kernel**: a loop that Numba compiles; for each processor, version and kind of arguments once.
"""
