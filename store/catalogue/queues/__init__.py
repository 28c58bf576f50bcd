"""What waits for a server's background threads, and who is at it.

`encode_queue` holds the chunks that wait to be coded, `jobs` the long work that operators asked
for, one of each kind at a time.

Imports `tables`, `edges`, `owners`, `sketches` and `dependencies` of the catalogue.

- **claim, lease**: a moment until which somebody is at something; whoever comes after it goes on.
"""
