"""Attacks on a running server: requests that are small and ask for much.

Each starts a server of its own on the loopback interface, and says in `results/` what it cost.
"""
