"""Prefix codes (Huffman): decoded by look-ups and shifts alone, so fast on every processor.

`codes` chooses lengths, packs and parses them; `look_ups` makes what encoders and decoders look up;
`loops` and `write_loops` emit their inner loops, of plain 64-bit instructions, over `lanes` of
bits; `plane_kernels` and `row_kernels` code whole planes, and `prefix` binds them for the rest.

Imports `simd`, and of the room only `buffers`, `jit`, `planes` and `errors`.

- **plane code**: one table for all symbols of a segment; a look-up gives several of them.
- **row code**: a table for each context; a look-up gives one symbol.
- **lane**: one of several bit sequences that are read side by side.
"""
