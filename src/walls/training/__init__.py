"""The training loop, a network's job, the authors' release, and their sections of params.yaml.

Where images come from is not known here.
"""
