"""How images become a network's input: pixels in [0, 1], less MEAN, over STD, by channel."""

# ImageNet's, as the paper's network takes them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
