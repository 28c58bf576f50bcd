"""The repository: an object store and its catalogue, kept in step.

`repository` is what operations read and write through, `reader` its half that changes nothing.
`journal` writes and replays changes of refs, `pack_check` verifies packs from outside, `pins` keeps
what a commit relies on from being collected.

Imports `model`, `reading` and `similarity`, and `store`.

- **journal**: one object per change of a ref, so that the object store knows all refs.
- **pin**: what is about to be relied on, and so not to be collected.
"""
