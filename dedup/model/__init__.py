"""What a vault is made of, as plain values and the bytes of each.

`files` says what files are made of, `sketch` and `sketch_file` what chunks are like,
`journal_entries` what changed, `store_marker` what a store is, `report` what reports say. `names`
and `paths` have the rules for names, `strict_json` and `cards` read JSON and YAML from outside.

Imports `errors`, the values of `store` and the dtypes of `codecs`. Reads no weights.

- **sketch**: 32 bytes that are nearly the same for chunks of one family.
- **journal entry**: one change of a ref, as an object.
- **marker**: the object that says what a store is.
"""
