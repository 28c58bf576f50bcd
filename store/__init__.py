"""Where bytes are kept: backends, packs and the catalogue. Knows nothing of codecs or models.

`backend` says what a place for objects promises, `backends` has them; `packs` lays frames into
immutable objects; `catalogue` is the SQL database that finds them again.

Imports nothing else of ours: keys in, bytes out.

- **object**: immutable bytes under a key.
- **pack**: an object of frames back to back with an index at the end, about 64 MiB.
- **catalogue**: the SQL database; it can be made again from the objects alone.
"""
