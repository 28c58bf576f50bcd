"""The ways in: HTTP server and client, command line, configuration.

`cli` is the command, `client` a vault behind a server; `v1`, `hub` and `web` are what the server
speaks, `requests` what these share, `server` joins them. `config` reads the environment.

Imports `dedup`, and `store` to build backends and catalogues. The one room that reads arguments,
the environment and sockets.

- **caller**: who asks, by the token of the request.
- **route**: an address with a method, and the right that it takes.
"""
