"""What makes images: drawn animals, folders and archives of photographs, text-to-image, STACK-MIX
and STACK-GEN. Later stages read their results by way of images, never from here.
"""
