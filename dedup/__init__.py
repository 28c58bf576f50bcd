"""Tensors, files, manifests, bases, reports: what turns a file into frames and back.

From the bottom: `model` has the values, `reading` decodes, `formats` takes files apart,
`similarity` finds bases, `repository` keeps objects and catalogue in step; `verification`,
`transfer`, `maintenance` and `reports` are the operations on it. `vault` says what a vault does,
`local_vault` is the one of this process.

Imports `codecs` and `store`. Reads no arguments and no environment.

- **vault**: a place that keeps repos of files and gives back the very bytes it was given.
- **repository**: an object store and its catalogue, kept in step.
"""
