"""The verbs of who runs a vault for others: tokens, quotas, retention and settings.

Imports what `cli` imports, and its `console`, `options` and `progress`.
"""
