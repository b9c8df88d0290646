"""Sampling of candidate pairs from the documents: pair features, cells of their distribution, bounded samples."""
