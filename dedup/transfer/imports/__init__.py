"""Takes over what others keep: a cache of huggingface_hub, folders, a bucket.

`found_repos` finds repos and revisions in a place, `revisions` pushes them under their names and
ids, `buckets` brings those of a bucket to this machine first.

Imports `push` and `folders` of the transfers.
"""
