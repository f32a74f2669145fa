"""What makes data/set: drawn animals, folders and archives of photographs.

A source is one function under its name (kinds.py). Nothing here is read by a later stage than
`data` and `stacks`: these read the images that lie on the disk, by way of `images`.
"""
