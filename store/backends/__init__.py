"""Where objects are kept: a folder, an S3 bucket, this process's memory.

Each module implements `store.backend.Backend`; `open` makes one from an address, `cache` keeps what
was read once on the local disk. To add a backend, write a module and name it in `open`.

Imports `backend` and `errors` of the room, and nothing else of ours.

- **key**: the name of an object, by the one rule of `backend.check_key`.
- **durable**: on the disk or in the bucket when `put` returns, whatever happens then.
"""
