"""Pruned copies: which elements of a source were set to zero.

`masks` codes a copy whose elements are the source's or zero, `scores` predicts which ones went from
their magnitudes, rows and columns, `symbols` codes what happened given the prediction.

Imports `codecs` and the operations' floats.

- **cut**: set to zero, as opposed to **kept**.
"""
