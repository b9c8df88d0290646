"""Evaluation: bundles x labelled pairs -> figures and a verdict."""
