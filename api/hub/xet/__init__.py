"""The Xet protocol over HTTP: how current hub clients upload.

`addresses` has all addresses of the protocol, `cas` what clients upload to, `grants` the tokens
that they get for it: short-lived, signed, each for one repo and one generation.

Imports the hub's `errors`, `signing` and `state`, and `requests`.
"""
