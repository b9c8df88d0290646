"""Selection of pairs from the candidates: the target, the matching to it, and the mining strategies."""
