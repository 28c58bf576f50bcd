"""What a chunk is like, and what it should be encoded against.

`candidates` finds chunks by sketch, `size_prediction` predicts how large a delta would be,
`base_selection` chooses for a push, `family` and `family_plan` for a whole family, `newcomers`
tells which have grown, `edits` is for files that were edited.

Imports `model`, the protocols of `vault.py`, and the sketches of `store`.

- **family**: chunks whose sketches are nearly the same.
- **base**: the chunk that a delta is decoded with.
- **cluster base**: a member of a family that is standalone, and that others are deltas on.
"""
