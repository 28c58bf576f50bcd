"""Guesses how tensors may have been computed from others: one module for each kind of guess.

A kind says how a target can be read as values of what it was computed from (a view, by which
sources are looked for by content), and which recipes may give it from the sources that were found.
Whether a guess is right is measured on the first block (FORMAT.md, "Recipes"). `registry` lists the
kinds; `kinds` says what one is; `tensors` and `layouts` say what is stored, and how it may lie.

Imports `codecs`, and recipes and operations.

- **target**: the tensor that may be a copy; **source**: one that it may be computed from.
- **companion**: a tensor in the target's revision, as its scales.
- **view**: the values that a target stands for, at the places of its source's elements.
"""
