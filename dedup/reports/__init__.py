"""Where bytes go, what they cost, and what a decision would change.

`report` puts a report together from `breakdown`, `attribution`, `growth` and `object_usage`;
`prices` makes bills of it; `removal_prediction` and `optimise_prediction` say what would be freed;
`revision_details`, `families` and `lineage` are what pages show.

Imports everything in the room but `local_vault`. Changes nothing.

- **shared**: needed by several owners, and split among them.
- **exclusive**: what would go if this owner went.
"""
