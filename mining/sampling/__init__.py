"""Split documents in, candidate pairs out: pair features, cells of their distribution, bounded random samples."""
