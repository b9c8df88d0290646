"""Marks of the tests that need Ray."""

import pytest

RAY = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray leaves its sockets and processes to the end of the interpreter.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
