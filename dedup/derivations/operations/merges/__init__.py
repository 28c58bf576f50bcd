"""Tensors made of several others of one shape: averages, task arithmetic, adapters merged.

`elementwise` runs a short list of steps on each element, `low_rank` adds the product of two small
matrices to a base.

Imports `codecs` and the operations' floats.

- **step**: one operation of arithmetic, whose result is rounded.
"""
