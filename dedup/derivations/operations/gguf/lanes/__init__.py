"""The searches for scales, for many runs side by side: one lane of a vector for each.

`vectors` emits loops over vectors of float32 as LLVM IR, `lines` and `scales` the searches in terms
of it. `search` finds the scales of a tensor's runs, side by side where the machine has the vectors,
one by one with the kernels of the package above for the rest.

Imports numpy, numba, llvmlite, `codecs`, and the plain searches.
"""
