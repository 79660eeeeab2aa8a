"""The interface of a model: a network as a pair of pure functions, from this package or your own."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from jax import Array

Params = Mapping[str, Any]
BatchStats = Mapping[str, Any]


class Apply(Protocol):
    """The forward pass of a `Model`."""

    def __call__(
        self, params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Array, BatchStats]:
        """Returns logits f32[B, C] for floats [B, H, W, channels] in [0, 1], and the batch statistics to keep.

        With `train`, normalises by the batch, drops units at random by `key`, and returns updated statistics; without
        it, normalises by `batch_stats` and returns them unchanged. It then needs no key, but still drops units if given
        one (Gal & Ghahramani 2016, arXiv:1506.02142: Monte Carlo dropout). The networks here refuse images that are not
        floats with a ValueError.
        """
        ...


class Init(Protocol):
    """The initialiser of a `Model`."""

    def __call__(self, key: Array) -> tuple[Params, BatchStats]:
        """Returns fresh `params` and `batch_stats`, all float32."""
        ...


class Model(NamedTuple):
    """A network as two pure functions, like an optax transformation: any such pair can be trained."""

    init: Init
    apply: Apply
