"""The command `weightvault`: one module for the verbs of each subject.

`main` is the command, `verbs` has its verbs, `console` the session of one call, `options` what
several verbs take, `exits` the exit statuses.

Imports `config`, `formatting`, `report_text`, `web` for exports and `server` to serve. Modules of
`dedup` are imported where a verb needs them, so that `--help` is quick.
"""
