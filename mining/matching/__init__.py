"""Candidate pairs in, chosen pairs out: the target's distribution, and the mining strategies that follow it."""
