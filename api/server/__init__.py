"""The server: all routers as one application, on a socket until a signal ends it.

`app` joins the routers, `serving` runs them, `logs` and `metrics` tell what happens, `upkeep`
puts the vault's size on record.

Imports every other package of the room but `cli` and `client`.
"""
