"""Takes files apart, one module per format; `registry.py` says which takes which."""
