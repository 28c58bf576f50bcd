"""Who may do what, and see what: tokens, visibility, ownership.

`tokens` keeps tokens by their SHA-256, `visibility` is the one predicate for which repos somebody
may see, `received` records which chunks somebody has sent.

Imports `tables` and `dependencies` of the catalogue.

- **scope**: the repos that somebody may read, as one condition.
- **received**: sent by somebody, who may therefore name it, though nobody has committed it yet.
"""
