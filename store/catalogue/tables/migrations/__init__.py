"""How a catalogue's database becomes one of today's, version by version (Alembic).

`versions` has one module per version of the tables. Those of released versions are never changed.

Imports nothing else of ours: the code moves on, what a migration does must not.
"""
