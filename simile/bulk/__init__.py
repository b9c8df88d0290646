"""Scores and embeddings of inputs of any size: each shard of the input becomes one part file, whole or not at all.

Only `simile.bulk.storage` can be imported without PyArrow.
"""
