"""The journal: one small object per change, so that the object store knows all refs.

`writing` makes every entry there is, `replay` reads entries and carries them out in a catalogue,
`replay_rules` says what an entry may do that is read after younger ones; `heads` says in the store
how far the journal goes, and `lost_entries` finds what is missing.

Imports `model` and the store; `replay` imports `similarity` for the sketches of packs it learns.

- **heads**: the newest entries, those that no other entry names.
- **replay**: do in a catalogue what an entry says, unless it is done.
"""
