"""Notebook 8: every wall at once, new heads on one backbone, its figure and page. Not the paper's
protocol.
"""
