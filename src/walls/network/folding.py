"""A network that scores many images: each batch norm a part of the convolution before it."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from walls.network import geometry
from walls.network.classifier import Classifier


def folded(model: Classifier) -> Classifier:
    """The same logits but for rounding, without a pass over the features for a batch norm.

    In eval mode a batch norm is a factor and a shift for each channel, which the convolution before
    it can hold. `model` isn't changed, and the rest of it is shared. It is returned itself where
    nothing can be folded: its backbone is no chain of layers, has no batch norm that follows a
    convolution in eval mode, or somebody's hook waits between the two.
    """
    if type(model) is not Classifier:
        return model
    layers: list[nn.Module] = []
    count = 0
    with torch.no_grad():
        for layer in geometry.flatten(model.features):
            count += 1
            if layers and _fits(layers[-1], layer):
                layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
            else:
                layers.append(layer)
    if len(layers) == count:
        return model
    own = copy.copy(model)
    own._modules = model._modules | {"features": nn.Sequential(*layers)}
    own._zones = {}
    return own


def _fits(convolution: nn.Module, norm: nn.Module) -> bool:
    """Whether the norm, in eval mode, is a factor and a shift of that convolution's channels."""
    if type(convolution) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d:
        return False
    hooked = any(
        layer._forward_hooks or layer._forward_pre_hooks or layer.training
        for layer in (convolution, norm)
    )
    own = norm.running_var
    return not hooked and own is not None and own.dtype == convolution.weight.dtype
