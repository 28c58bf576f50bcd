"""Tests that others wrote for hubs and their clients, run against a served vault.

Nothing of them is kept here: `clients` takes huggingface_hub's from its release on PyPI. What is
ours is what leads them to the vault (`pytest_hub`), and what is said of those that fail
(`reasons`).
"""
