"""What Python programs import: vaults, repos, tensors (docs/library.md).

`vault` and `repo` are what a program holds (`handle` is what both do), `opening` gives them by
address, `names` reads addresses. `tensor_file` is a revision as safetensors shows a file, over
`tensor_source`, which reads, `slices`, which says what, and `arrays`, which makes arrays of it.
`saving` goes the other way. `diff` and `operations` work on whole revisions, `statistics` on one
tensor; `errors` are all. `adapters` are for PyTorch and fsspec.

Imports `dedup`, `client`, `config` and `progress`. The top of the package shows what is here, and
loads it when it is asked for.

- **handle**: what a program holds of something in a vault; closing it gives back its memory.
"""
