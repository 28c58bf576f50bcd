"""The entropy coder: symbols to bits and back, at the speed of memory.

`tables` counts and packs frequencies, `kernels` codes whole planes with the vector loops of `simd`
or the plain ones of `scalar`, `rans` binds them for the rest. `streams` codes one byte plane in the
cheapest of several ways; `contexts` chooses a table for each symbol.

Imports `simd`, and of the room only `buffers` and `errors`.

- **plane**: one byte of each element, side by side.
- **stream**: a coded plane with the byte that says how it was coded.
- **context**: what is known of a symbol before it is read, and so which table codes it.
"""
