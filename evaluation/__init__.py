"""Evaluation: bundles and labelled pairs in, figures and a verdict out."""
