"""The standard check: of any network, any saliency method and any images, a report.

Nothing of the paper's own networks and datasets lives here.
"""
