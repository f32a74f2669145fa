"""Saliency maps, their activity, the evaluation of many images; no table of the paper, no plot."""
