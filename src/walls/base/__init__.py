"""What every room uses: paths, files, parameters, progress, randomness by name.

Nothing here knows of networks or images.
"""
