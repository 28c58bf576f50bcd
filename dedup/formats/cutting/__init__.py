"""Where segments begin and end, whatever the format.

`reader` has bounded reads of files, `held` short files in memory, `content_chunks` cuts opaque
bytes by their content with the kernel in `gear`, `bundles` puts small tensors together, `fused`
takes fused projections apart.

Imports `model`.

- **bundle**: many small tensors of one dtype, side by side in a file, stored as one chunk.
- **work**: how many reads a file may cost, with all that lies in it.
"""
