"""The verbs about other hubs: copies of their repos.

Imports what other verbs do.
"""
