"""Tensors with a base: what differs from it, block by block.

`deltas` codes a tensor, `blocks` plans one block, `difference*` codes the differences of elements,
`scales` measures by how much the elements around each one moved, `sparse` codes the few that
differ.

Imports `blocks`, `rans` and `simd`, and the modules of the room below `tensors`.

- **base**: the raw bytes that a delta is decoded with.
- **difference**: the distance between two elements in the order of their values.
- **row map**: which rows of a tensor stand where in its base.
"""
