"""The training loop, one network's job, the authors' release, and the sections of params.yaml that
make a network. It does not know where images come from.
"""
