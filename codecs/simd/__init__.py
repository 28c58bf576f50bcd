"""Vector loops, emitted as LLVM through Numba for AVX-512 and AVX2.

`vector_ir` builds the code for any width, `vector_sets` knows the two instruction sets,
`vector_rans` has the loops of the entropy coder and `vector_ports` where they read and write.
`paths` says which implementation runs; all of them give the same bytes.

Imports nothing else of ours.

- **path**: one of three implementations: AVX-512, AVX2, portable.
- **lane**: one of the 64 coders that take turns with the symbols of a plane.
"""
