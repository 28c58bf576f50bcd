"""How the code hangs together: what one push touches."""
