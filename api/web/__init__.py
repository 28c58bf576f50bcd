"""The pages that people look at: server-rendered, read-only."""
