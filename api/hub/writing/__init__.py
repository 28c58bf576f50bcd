"""What clients of hubs change: repos, branches, tags, and commits.

Imports the hub's `files` and `state`, and `requests`.
"""
