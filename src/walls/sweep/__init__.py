"""Notebook 8: every wall at once, new heads on one backbone, its figure and page.

It is not the paper's protocol.
"""
