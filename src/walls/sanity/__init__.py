"""The standard check: any network, any saliency method, any images, and a report of what the map
lights up where the network can't see. Nothing of the paper's own networks and datasets lives here.
"""
