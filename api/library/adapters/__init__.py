"""What puts vaults behind the interfaces of other libraries, each of which may be missing.

`torch` has models of PyTorch, `pretrained` those of transformers, `filesystem` what fsspec
opens, `aio` what asyncio awaits.

Imports the rest of `library` and `dedup`, and the library that it is for.
"""
