"""The pages that people look at: rendered by the server, read-only.

`front` and `repo` are the pages, `session` who looks at them, `figures` the charts, `card` makes
harmless HTML of model cards, `rendering` fills templates.

Imports `v1`, `requests`, `formatting`, `report_text`, `hub` for its signatures, and `dedup`.
"""
