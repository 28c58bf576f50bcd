"""What a revision's files are made of: segments, chunks, manifests.

`segments` are the parts of a file, `entries` one file, `manifest` all files of a revision and their
bytes, `outlines` reads those bytes within bounds, `tree` changes a revision path by path, `rows` is
what the catalogue keeps of it.

Imports `errors`, and of `model` the rules for names and JSON.

- **segment**: a run of a file's bytes: a tensor, a bundle, opaque bytes, or a few literal ones.
- **chunk**: the unit of storage: a whole segment, or 32 MiB of a longer one.
- **manifest**: the files of a revision and the segments of each.
"""
