"""Documents in, split documents out: reading, near-duplicate removal, meaning, held-out splits, embeddings."""
