"""weightvault: AI model weights, stored losslessly in a fraction of their size."""

__version__ = "0.1.0"
