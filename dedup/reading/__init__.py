"""From frames to bytes: fetches, decodes and verifies chunks.

`chunk_reader` asks for frames in batches, their bases too, and decodes them one batch ahead of who
reads; `held` has what a client need not ask a server for; `file_assembly` puts files together;
`buffer_pool` has memory for whole chunks; `timed_codecs` is `codecs` with a clock; `workers` are
the threads.

Imports `model` and `codecs`. Knows neither backends nor catalogues: frames come from a function.

- **batch**: the frames that are asked for at once, 32 MiB of them.
- **buffer**: memory for one chunk, used again when the last view of it is gone.
"""
