"""Saliency maps and their activity: the cut f∘g, the methods, the evaluation of many images. No
table of the paper, no drawing.
"""
