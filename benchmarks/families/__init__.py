"""How well bases are found, and how near plans come to the best."""
