"""Loads `model.safetensors`, as `fmnist_jax.export` writes it, into the benchmark's PyTorch networks."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn


def load(network: nn.Sequential, tensors: Mapping[str, np.ndarray]) -> None:
    """Fills a network of `pytorch_side.build` with the weights of a plain network for square images.

    Args:
      network: has the same layers.
      tensors: arrays by name, such as `params.Conv_0.kernel` [height, width, in, out].
    """
    counters = {"Conv": 0, "BatchNorm": 0}
    channels = 0
    with torch.no_grad():
        for module in network:
            if isinstance(module, nn.Conv2d):
                kernel = tensors[f"params.Conv_{counters['Conv']}.kernel"]
                module.weight.copy_(_tensor(kernel.transpose(3, 2, 0, 1)))
                counters["Conv"] += 1
                channels = kernel.shape[3]
            elif isinstance(module, nn.BatchNorm2d):
                name = f"BatchNorm_{counters['BatchNorm']}"
                module.weight.copy_(_tensor(tensors[f"params.{name}.scale"]))
                module.bias.copy_(_tensor(tensors[f"params.{name}.bias"]))
                module.running_mean.copy_(_tensor(tensors[f"batch_stats.{name}.mean"]))
                module.running_var.copy_(_tensor(tensors[f"batch_stats.{name}.var"]))
                counters["BatchNorm"] += 1
            elif isinstance(module, nn.Linear):
                kernel = tensors["params.Dense_0.kernel"]
                module.weight.copy_(_tensor(_channels_first(kernel, channels)))
                module.bias.copy_(_tensor(tensors["params.Dense_0.bias"]))


def _channels_first(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Converts a head [features, classes] with channels last to [classes, features] with channels first."""
    features, classes = kernel.shape
    return kernel.reshape(features // channels, channels, classes).transpose(2, 1, 0).reshape(classes, features)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))
