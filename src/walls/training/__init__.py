"""The training loop, one network's job, the authors' release.

And the sections of params.yaml that make a network. Where images come from is not known here.
"""
