"""Simple stand-ins for tests of rules: a clock that is turned by hand, faces that are drawn."""
