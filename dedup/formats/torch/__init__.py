"""PyTorch checkpoints, and arrays of numpy in other pickles: these are followed, never run.

`opcodes` follows a pickle's opcodes on a stack of plain values, `pickles` learns from it which
tensors look at which storages, `storages` divides a storage among them; `torch_zip` and
`torch_legacy` are the two kinds of checkpoints; `torch_export` reads what exported programs hold,
and `numpy_pickles` takes all other pickles.

Imports `formats/source.py` and `cutting`, and `model`.

- **storage**: a run of elements that tensors are views of.
"""
