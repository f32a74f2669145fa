"""What makes images: drawn animals, folders and archives of photographs.

Later stages read their results by way of `images`, never from here.
"""
