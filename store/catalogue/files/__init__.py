"""Whole files: by what names other systems know them, and uploads.

`hashes` has SHA-256 and git's hash of each file, `loose_files` those that were uploaded for a repo
and that no commit need name, `xorbs` what Xet clients uploaded and where it is now.

Imports `tables` and `dependencies` of the catalogue.

- **loose file**: uploaded for a repo, and kept for a while whether a commit names it or not.
- **generation**: the uploads of one owner that end together.
"""
