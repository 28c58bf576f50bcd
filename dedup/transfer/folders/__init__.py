"""Which files of a folder a push stores, and what it leaves out, all of it named.

`rules` are what leaves files out or refuses them: the list of its own, `.wvignore`, what the user
names. `survey` walks a folder by them; `hf_cache` finds the files of a revision in the folders that
clients of the hub keep their downloads in.

Imports `errors` and `model`.

- **left out**: by a rule; the push goes on. **broken**: unreadable, or with a name that no vault
  takes; the push does not go on unless that was asked for. **secret**: refused unless named.
"""
