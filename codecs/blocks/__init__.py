"""Tensors without a base: block by block into one frame.

`layouts` has the ways to cut a block into streams, `blocks` chooses the smallest, `parallel` codes
the blocks of a tensor on several threads, `assembly` lays them into the frame.

Imports `quantised` and `rans`, and the modules of the room below `tensors`.

- **block**: 2 MiB of a tensor, which decode alone.
- **layout**: a way to cut a block into streams.
"""
