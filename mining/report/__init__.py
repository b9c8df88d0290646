"""Chosen pairs in, figures and an HTML page out: difficulty, shortcuts, similarity to the target."""
