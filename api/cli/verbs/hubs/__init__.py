"""The verbs about other hubs: copies of their repos, and what their clients keep.

Imports what other verbs do.
"""
