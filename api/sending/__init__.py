"""What goes back over the wire: bytes as they are made, and lines while work goes on.

`streams` sends pieces from worker threads, `ranges` reads the Range header, `downloads` bounds what
slow clients hold of the server, `frames_body` is a body of frames, `progress_lines` answers with
lines that tell how far long work is.

Imports `requests`, `protocol`, `errors` and `dedup`. Knows no route.

- **piece**: some of a body's bytes, decoded, and not sent yet.
"""
