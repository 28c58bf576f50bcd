"""What clients of hubs read: repos, listings, history, files.

Imports the hub's `files` and `state`, `requests` and `sending`.
"""
