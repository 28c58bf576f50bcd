"""Measurements on real weights, and the demo. Run from a checkout; not part of the wheel."""
