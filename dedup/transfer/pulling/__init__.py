"""What a pull reads from and writes to.

`pull_source` decodes chunks of a server, of this machine, or of a vault at hand; `destination` is
the folder, used so that nothing in it leads anywhere else.

Imports `errors`, `model`, `reading` and `vault`.
"""
