"""Whether what is stored is still what was stored.

`check` looks whether everything referred to is there and reads no weights; `scrub` reads, decodes
and hashes everything; `pack_verify` judges one pack; `damage` says which files are affected.

Imports `repository` and what lies below. Repairs nothing: that is `maintenance/repair.py`.

- **damage**: what a scrub found, on record until it is repaired.
- **affected**: a file of a revision that needs what is damaged.
"""
