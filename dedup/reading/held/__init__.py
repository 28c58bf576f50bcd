"""What a client has of chunks already, so that a server need not send it: a cache on its disk, and
files that lie around.

`likeness` tells which chunks of other revisions stand where one does; `chunk_cache` keeps frames on
disk; `local_files` reads chunks out of files; `held_chunks` asks for the rest, and offers what is
there as bases.

Imports codecs, store.private, and of dedup: errors, model, formats, and the modules beside it.
"""
