"""Preparation of the documents: sampling, near-duplicate removal, grouping by meaning, held-out splits, embeddings."""
