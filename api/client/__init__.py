"""A vault behind a server: `HttpVault`, with the interface of any other vault.

`http_vault` has the calls, `transport` the requests: connections, retries, and a server's errors
made ours again.

Imports `protocol`, `errors`, and of `dedup` values and protocols alone.
"""
