"""What figures and pages share: one style, images with their dead zone, maps over them.

No figure of one notebook alone lives here.
"""
