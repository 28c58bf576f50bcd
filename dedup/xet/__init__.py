"""The Xet protocol, by which clients of hubs upload: its hashes, xorbs and shards.

A *xorb* is a run of up to 8,192 Xet chunks (64 KiB on average, nothing to do with the chunks of a
vault) that a client uploads as one object. A *shard* says which ranges of which xorbs make up a
file. Specification: https://huggingface.co/docs/xet.
"""
