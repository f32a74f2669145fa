"""Paths, files, parameters, progress, randomness by name: what every room uses. Nothing here knows
of networks or images.
"""
