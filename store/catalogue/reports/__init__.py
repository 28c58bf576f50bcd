"""What reports and pages ask of the catalogue: many rows, read once.

`bulk` reads all that a report adds up in one transaction, `statistics` lets the database add,
`pages` has what one page shows, `inventory` and `outlook` what a collection would do.

Imports every other module of the catalogue. Writes nothing but the totals of a day.

- **live**: needed by a commit, or as the base of a chunk that is.
"""
