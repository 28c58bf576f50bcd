"""Takes files apart: one module per format.

A format is a module with `recognise` and `segment`; `registry` lists them. `source` has what they
share, `cutting` cuts what no format explains, `scan` reads the files of a push.

Imports `model`. Unpickles and executes nothing; reads only what places tensors, through a `Cursor`
that counts its reads.

- **opaque**: bytes that no format explains, cut by their content.
- **companion**: a file that another one places its tensors in.
"""
