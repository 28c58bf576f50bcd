"""The verbs of the command: parse, call, print.

One module for the verbs of each subject; `family_chart` draws what `families --svg` writes. To add
a verb, write it here and name it in `cli/main.py`.

Imports what `cli` imports, and its `console`, `options` and `progress`.
"""
