"""Quantised tensors: groups of elements that share scales (GGUF).

`groups` says where the fields of a group lie, `guides` tells from the scales how the quants are
distributed, `fields` cuts groups into fields and codes each by itself, `staged` codes each against
what is predicted of it.

Imports `rans`, and of the room `buffers`, `dtypes` and `errors`.

- **group**: the elements that share scales, and the unit that blocks are cut at.
- **field**: the same part of every group: the quants, the scales, the minima.
- **guide**: a context that comes from the scales.
"""
