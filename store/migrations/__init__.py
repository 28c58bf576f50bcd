"""How a catalogue's database becomes one of today's, version by version (Alembic)."""
