"""Copies of repos of an upstream hub, fetched when they are first asked for.

`chosen` is what an operator wants mirrored, `addresses` refuses private addresses, `upstream` asks
the hub within bounds, `listing` reads what it says of files, `answers` keeps what it said,
`readers` knows who may read what it guards. `fetches` brings files in while clients already read
them, `storing` puts them into the vault. `mirror` decides what is fetched and for whom, and `guard`
tells who asks.

Imports `requests`, `errors` and `dedup`, and of `store` what the catalogue knows of mirrors. Knows
no route: `api/hub/mirrored.py` puts it in front of the hub's.

- **upstream**: the hub that is mirrored.
- **guarded**: a mirrored repo that is private or gated at the upstream.
"""
