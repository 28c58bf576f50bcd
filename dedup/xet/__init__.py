"""The Xet protocol, by which clients of hubs upload: its hashes, xorbs and shards.

`hashes`, `xorb` and `shard` follow the specification (https://huggingface.co/docs/xet): what is
hashed how, xorbs (objects of chunks) and shards (which ranges of xorbs make up files). What we add
to it is `index`, the hashes and sizes of a xorb's chunks, and `stored`, the keys of its objects.

Imports `errors` alone. What a server does with uploads is in `transfer/xet_uploads.py`.

- **xorb**: an object of compressed chunks, named by the hash of their hashes.
- **shard**: a table of files, each as ranges of xorbs.
"""
