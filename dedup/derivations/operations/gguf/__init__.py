"""The block types of GGUF as operations: their bytes, computed from the float32 values of a source.

`blocks` predicts whole blocks, or what is left of them once their factors or scales are known;
`operation` is what recipes name; `dequantise` gives the values back; `margins` measures how near
values lie to other quants; `layout` cuts blocks into fields. `simple`, `k_minima`, `k_symmetric`,
`iq4`, `mx` and `ternary` have the kernels of a family each, over the steps of `arithmetic`.
`searches` finds scales run by run, `lanes` for many runs side by side.

Imports numpy, numba, and from `codecs` where the fields of the types lie and which vector loops
this machine has.

- **factor**: a field that follows from the source alone, such as d, m and dmin.
- **scale**: a field of a run of elements, in units of a factor. **quant**: that of one element.
"""
