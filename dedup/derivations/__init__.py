"""Chunks that are computed from others instead of stored.

`recipe` says how: an operation, its parameters, and the chunks it reads. `operations` are the pure
functions that recipes name, defined to the last rounding in FORMAT.md. `predict` reads the inputs
and runs them block by block; `derived_frames` codes what is stored against what they give.

Imports `codecs`. Knows nothing of files, stores or catalogues: inputs come from a function.

- **operand**: elements that an operation reads, from one or more chunks.
- **prediction**: what a recipe gives; **correction**: what makes the stored bytes of it.
"""
