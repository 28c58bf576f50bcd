"""The ways in and out: pushes, pulls, uploads, commits, refs.

`push` and `pull` work for both vaults, this process's and a server's; `uploads`, `raw_packs` and
`xet_uploads` take files from clients of foreign protocols; `refs` makes commits, branches and tags
of them, and `recutting` cuts files again of which a commit says more; `namespaced_vault` is the
vault as the owner of one namespace sees it; `new_frames` stores frames that were made here, and
puts them in use.

Imports `repository`, `formats`, `similarity`, `xet`, and `verification` to look at what was lost.

- **staged**: uploaded and verified, not committed yet.
- **principal**: who sends, as far as what they sent is concerned.
"""
