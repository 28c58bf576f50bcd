"""What keeps a vault small and whole, beside live traffic.

`gc` collects garbage by the plan in `collection`; `optimise`, `reencode` and `background_encode`
write smaller frames, the last in a `background_thread`; `repair` brings damaged ones back,
`rebuild_catalogue` makes a catalogue from nothing but the objects.

Imports everything in the room but `reports` and `local_vault`. Killed at any moment, it leaves the
vault as it was or a step further.

- **grace**: how long garbage stays before it is collected.
- **step**: what is visible together or not at all.
"""
