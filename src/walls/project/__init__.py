"""The workshop: the command line, and what is made of a run: record, report, verify, site, pack.

No stage's numbers depend on it, and no room imports it.
"""
