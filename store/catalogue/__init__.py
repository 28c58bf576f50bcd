"""The catalogue: the SQL database that says where every digest lives.

`tables` has the schema and the transactions, `dependencies` the conditions by which frames are
kept, sent again or given up. Above them one module for each subject; `catalogue` binds what a
repository asks most.

Imports `backend`, `errors` and `packs` of the room. Nothing here is the only copy of anything:
`dedup.maintenance.rebuild_catalogue` makes it again from the objects.

- **usable**: a frame that can be decoded: it is there, not damaged, and so is its base.
- **spare**: a second frame of a chunk, which takes over when the first is lost.
- **tombstone**: an object that a collection will take, unless somebody needs it before.
"""
