"""How a repair makes things anew of which there is no second copy.

`object_repair` makes small objects from the catalogue, `compute_again` derived frames from their
inputs.

Imports what `maintenance` does, but no maintenance.
"""
