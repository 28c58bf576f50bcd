"""Lossless coding of one tensor at a time: bytes to a self-describing frame and back.

`pipeline` is the way in and out, `registry` lists the codecs, `frame` is the envelope, `dtypes` the
element types. The coders are `flat`, `texts` and `tensors`, which has `blocks` for standalone
tensors and `delta` for those with a base. Below them `rans`, the entropy coder, its vector loops in
`simd`, and `quantised` for groups that share scales.

Imports nothing else of ours: bytes in, bytes out.

- **frame**: a chunk encoded, self-describing, made of blocks that decode alone.
- **delta**: a frame that needs the raw bytes of another chunk, its base.
"""
