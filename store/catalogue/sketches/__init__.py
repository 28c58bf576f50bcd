"""Finds chunks that are like a new one, in a few index look-ups.

`bands` has the columns that sketches are searched by, `sketches` the searches.

Imports `tables` of the catalogue.

- **band**: some bits of a sketch; relatives agree in at least one band.
"""
