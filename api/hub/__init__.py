"""The API of Hugging Face hubs, as their clients speak it.

`reading` and `writing` are repos, files and commits, `lfs` is git-lfs, `xet` the Xet protocol;
`routing` matches paths as they were sent, `router` says which address leads where.

Imports `v1` for what both send, `requests` and `dedup`.

- **grant**: a signed permission to send or fetch one thing, for a short time.
"""
