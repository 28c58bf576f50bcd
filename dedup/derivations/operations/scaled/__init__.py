"""Codes that stand for a source's elements times a scale: FP8, integers, codebooks of four bits.

`quantise` takes scales and zero points from other tensors, `group_scales` gives scales from the
source. `affine` (MLX) and `codebook` (bitsandbytes) code groups by scales of their own. `places`
finds the scale of each element, `packing` puts codes into words.

Imports `codecs` and the operations' floats.

- **code**: a small integer or FP8 number that is stored for an element.
- **group**: neighbours that share a scale.
"""
