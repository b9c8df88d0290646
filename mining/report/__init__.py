"""The report on the mined pairs: difficulty, shortcuts, similarity to the target, as figures and as a page."""
