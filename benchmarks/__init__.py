"""Ratios against peers, measured in one run: what is compared takes turns in one process, so that
noise meets both.
"""
