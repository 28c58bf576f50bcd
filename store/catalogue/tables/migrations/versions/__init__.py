"""One module per version of the tables. Those of released versions are never changed."""
