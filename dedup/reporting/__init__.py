"""Reports: where the bytes go, what they cost, and what a decision would change."""
