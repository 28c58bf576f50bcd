"""The server's own API, which `HttpVault` speaks.

`routes` writes, lists and accounts, `content` sends bytes, `reports` and `health` say how the
vault is; `schemas` and `report_schemas` are the JSON documents.

Imports `requests`, `protocol` and `dedup`.
"""
