"""The PyTorch sides of the benchmark: the same networks and recipes, eager and through `torch.compile`.

Channels last, all images in memory (on the device) as bytes, bfloat16 by autocast where the configuration asks for it,
TF32 products and cuDNN's search for convolutions on a GPU; `torch.compile` in its default mode, for fixed shapes.
"""

import functools
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from experiments.benchmark import jax_side, networks
from experiments.benchmark.pieces import median_seconds
from experiments.benchmark.pytorch_optim import make_optimizer
from fmnist_jax import Config, FmnistError, make_schedule, to_dict


class MeanPooledConv2d(nn.Conv2d):
    """A 3x3 convolution with its 2x2 mean pooling, which averages the pixels first, as `fmnist_jax.conv_avg_pool` does.

    On a CPU that takes 7 ms instead of 19 for 128 images of 7x7x64 with 192 outputs, with their gradients.
    """

    def forward(self, x: Any) -> Any:
        """Computes [N, C_out, H / 2, W / 2] of [N, C_in, H, W]."""
        return functional.conv2d(functional.avg_pool2d(x, 2, stride=1, padding=1), self.weight, stride=2)


def build(layers: Sequence[networks.Layer]) -> nn.Sequential:
    """Builds a network from the list that the JAX sides build it from."""
    edge, channels = 28, 1
    modules: list[nn.Module] = []
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        is_pooled = following is not None and following.kind == "mean_pool"
        match layer.kind:
            case "conv":
                convolution = MeanPooledConv2d if is_pooled else nn.Conv2d
                modules.append(convolution(channels, layer.size, 3, padding=1, bias=False))
                nn.init.kaiming_normal_(modules[-1].weight, nonlinearity="relu")
                channels = layer.size
            case "norm":
                modules.append(nn.BatchNorm2d(channels))
            case "relu":
                modules.append(nn.ReLU())
            case "max_pool":
                modules.append(nn.MaxPool2d(2))
                edge //= 2
            case "mean_pool":  # part of the convolution before it
                edge //= 2
            case "dropout" if layer.rate:
                modules.append(nn.Dropout(layer.rate))
            case "flatten":
                modules.append(nn.Flatten())
                edge, channels = 1, edge * edge * channels
            case "dense":
                modules.append(nn.Linear(channels, layer.size))
                channels = layer.size
    return nn.Sequential(*modules)


class Trainer:
    """A network in training, with its data on the device."""

    def __init__(
        self,
        config: Config,
        network: jax_side.Network,
        compiled: bool,
        seed: int,
        scored_split: Literal["test", "validation"] = "test",
    ) -> None:
        """Builds network and optimiser; `config` has the data and the recipe, `scored_split` the images to score."""
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True  # shapes are fixed, so it may search for fast convolutions, as XLA does
        self.device = "cpu" if os.environ.get("JAX_PLATFORMS") == "cpu" else "cuda"
        if self.device == "cuda" and not torch.cuda.is_available():
            raise FmnistError(f"this PyTorch ({torch.__version__}) finds no GPU: install one with CUDA")
        self.config = config
        self.batch_size = config.train.batch_size
        self.smoothing = config.train.label_smoothing
        self.rates = _rates(config)
        self.layers = networks.layers_of(config.model) if network == "preset" else networks.NOTEBOOK
        self.network = build(self.layers).to(self.device, memory_format=torch.channels_last)
        # Otherwise the second size of a batch, that of evaluation, would be compiled for batches of any size.
        self.forward = torch.compile(self.network, dynamic=False) if compiled else self.network
        dataset_splits = jax_side.load_splits(config.data)
        self.train_data, self.scored_data = (
            _to_tensors(split, self.device) for split in (dataset_splits.train, getattr(dataset_splits, scored_split))
        )
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Goes back to before the first step, with the weights and data order of a seed; keeps what is compiled."""
        torch.manual_seed(seed)
        self.network.load_state_dict(build(self.layers).state_dict())
        self.optimizer, self.steps_done = make_optimizer(self.network, to_dict(self.config)["optim"]), 0
        image_count = len(self.train_data[1])
        self.order = torch.randperm(image_count, device=self.device)
        self.mirrored_first = torch.randint(2, (image_count,), device=self.device)

    def _decay_and_set_rate(self, rate: float) -> None:
        """Sets the rates, and decays kernels apart from the gradient, as optax does and PyTorch's SGD cannot."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
            kernels = [param for param in group["params"] if param.ndim > 1]
            with torch.no_grad():
                torch._foreach_mul_(kernels, 1 - group["lr"] * self.config.optim.weight_decay)

    def _next_indices(self) -> Any:
        """Indices of the next batch, which may start in one epoch and end in the next, as in fmnist_jax."""
        offset = self.steps_done * self.batch_size % len(self.order)
        indices = self.order[offset : offset + self.batch_size]
        missing = self.batch_size - len(indices)
        if missing or offset + self.batch_size == len(self.order):
            self.order = torch.randperm(len(self.order), device=self.device)
        return torch.cat([indices, self.order[:missing]])

    def _mirror(self, images: Any, indices: Any) -> Any:
        """Mirrors each image in every other epoch if the configuration asks for it, as `mirror_alternately` does."""
        if self.config.augment.flip != "alternating":
            return images
        offset = self.steps_done * self.batch_size
        epochs = torch.arange(offset, offset + self.batch_size, device=self.device) // len(self.order)
        mirrored = (self.mirrored_first[indices] + epochs) % 2 == 1
        return torch.where(mirrored[:, None, None, None], images.flip(-1), images)

    def _to_input(self, images: Any) -> Any:
        return (images.float() / 255).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> AbstractContextManager[None]:
        if self.config.model.dtype == "bfloat16":
            return torch.autocast(self.device, torch.bfloat16)
        return nullcontext()

    def _synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def train(self, steps: int) -> None:
        """Takes the given number of steps."""
        self.network.train()
        images, labels = self.train_data
        for _ in range(steps):
            indices = self._next_indices()
            batch = self._mirror(images[indices], indices)
            with self._autocast():
                logits = self.forward(self._to_input(batch))
            loss = functional.cross_entropy(logits.float(), labels[indices], label_smoothing=self.smoothing)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._decay_and_set_rate(self.rates[min(self.steps_done, len(self.rates) - 1)])
            self.optimizer.step()
            self.steps_done += 1
        self._synchronize()

    def accuracy(self) -> float:
        """Accuracy on the images that are scored."""
        return self._accuracy(lambda images: self.forward(images).float())

    def mirrored_accuracy(self) -> float:
        """Accuracy on the images that are scored, averaging the logits of each and its mirror image."""
        return self._accuracy(lambda images: self.forward(images).float() + self.forward(images.flip(-1)).float())

    def _accuracy(self, predict: Callable[[Any], Any]) -> float:
        self.network.eval()
        images, labels = self.scored_data
        size, correct = self.config.train.eval_batch_size, 0
        with torch.inference_mode(), self._autocast():
            for offset in range(0, len(labels), size):
                logits = predict(self._to_input(images[offset : offset + size]))
                correct += (logits.argmax(1) == labels[offset : offset + size]).sum()
        return float(correct) / len(labels)


def _rates(config: Config) -> list[float]:
    schedule = make_schedule(config.optim, config.total_steps)
    return [float(rate) for rate in jax.vmap(schedule)(np.arange(config.total_steps))]


def _to_tensors(dataset: Any, device: str) -> tuple[Any, Any]:
    images = torch.from_numpy(np.asarray(dataset.images).transpose(0, 3, 1, 2).copy())
    return images.to(device), torch.from_numpy(np.array(dataset.labels, np.int64)).to(device)


@functools.cache
def _warm_trainer(config: Config, network: jax_side.Network, compiled: bool) -> Trainer:
    trainer = Trainer(config, network, compiled, seed=0)
    trainer.train(3)
    trainer.accuracy()
    return trainer


def train_rate(config: Config, network: jax_side.Network, compiled: bool, steps: int) -> float:
    """Training images per second."""
    trainer = _warm_trainer(config, network, compiled)
    start = time.perf_counter()
    trainer.train(steps)
    return steps * trainer.batch_size / (time.perf_counter() - start)


def eval_rate(config: Config, network: jax_side.Network, compiled: bool) -> float:
    """Test images evaluated per second."""
    trainer = _warm_trainer(config, network, compiled)
    start = time.perf_counter()
    trainer.accuracy()
    trainer._synchronize()
    return len(trainer.scored_data[1]) / (time.perf_counter() - start)


def versions() -> dict[str, str]:
    """The version of PyTorch and its number of threads."""
    return {"torch": torch.__version__, "threads": str(torch.get_num_threads())}


def matrix_rate(size: int = 2048) -> float:
    """Floating-point operations a second of a square matrix product."""
    a = torch.from_numpy(np.random.default_rng(0).normal(size=(size, size)).astype(np.float32))
    return 2 * size**3 / median_seconds(lambda: torch.mm(a, a))
