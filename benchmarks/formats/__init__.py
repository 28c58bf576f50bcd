"""What taking files apart is worth, and what it costs."""
