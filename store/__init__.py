"""Where bytes are kept: backends, packs and the catalogue. Knows nothing of codecs or models."""
