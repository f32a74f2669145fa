"""What runs a stage: its notebook, kernel, locks, and the record of the run.

It knows no stage's subject, and no other room than `project/` imports it.
"""
