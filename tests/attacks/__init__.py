"""Attacks, one file per adversary of SECURITY.md, each a table of named attacks with what is expected."""
