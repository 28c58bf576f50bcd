"""What `maintenance.gc` is made of, and the plan that predictions share with it.

`plan` says which objects go, `repack` moves live frames out of packs that go, `base_copies` keeps
frames that many others need twice, `xorbs` says which of those no client counts on.

Imports what `maintenance` may, and nothing of `maintenance` itself.

- **retire**: give an object a tombstone, since nothing needs it.
- **remove**: delete an object whose tombstone is older than the grace.
"""
