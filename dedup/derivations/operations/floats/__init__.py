"""Floats of every width: as numbers to calculate with, rounded to each other, and scaled.

`formats` turns raw bytes into float32 and back, `cast` is the operation that does nothing else.

Imports `codecs` and the modules of operations beside it.

- **narrowing**: rounding to a float of fewer bits; **widening** is exact.
"""
