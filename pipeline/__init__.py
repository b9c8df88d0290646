"""The `simile` command line, `run` and `quickstart`: joins the stages, and is the only room that sees them all."""
