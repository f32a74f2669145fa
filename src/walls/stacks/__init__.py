"""The paper's two datasets, made: STACK-MIX and STACK-GEN, drawn or by text-to-image.

Later stages read them by way of `images`, never from here.
"""
