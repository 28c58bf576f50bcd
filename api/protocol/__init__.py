"""What server and client must agree on.

`wire` has header names, limits and how frames travel in a body; `following` the lines by which
long work tells how far it is.

Imports `errors`, and of `dedup` values alone.
"""
