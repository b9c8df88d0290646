"""The `simile` command line and `simile run`: the only package that knows all stages."""
