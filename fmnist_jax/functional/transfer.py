"""Transfer of weights from one network to another, and frozen parameters.

Arrays are named by their paths, such as `Conv_0/kernel` or `ResidualBlock_2/BatchNorm_0/scale`; a module is named by
the path down to it.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import keystr, tree_flatten_with_path, tree_map_with_path

from fmnist_jax.errors import ConfigError, abbreviated
from fmnist_jax.functional.interface import BatchStats, Model, Params
from fmnist_jax.functional.state import Weights


class Transferred(NamedTuple):
    """What became of each module, by its path."""

    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    """Left as initialised: the other network has no module of that path, or one of other shapes or dtypes."""
    unused: tuple[str, ...]
    """Modules of the other network that have no such counterpart."""


def transfer(
    params: Params, batch_stats: BatchStats, from_params: Params, from_stats: BatchStats
) -> tuple[dict[str, Any], dict[str, Any], Transferred]:
    """Takes over each module that has a counterpart of the same path, shapes and dtypes, and leaves the others alone.

    A module is taken whole, a norm with its running statistics, or not at all: a head with another number of classes or
    features keeps what it was initialised with (Yosinski et al. 2014, arXiv:1411.1792).

    Args:
      params: those of the new network; arrays, traced ones, or `jax.ShapeDtypeStruct`s.
      batch_stats: those of the new network.
      from_params: those of the other network.
      from_stats: those of the other network.

    Returns:
      The parameters and the statistics to start from, and what became of each module.
    """
    own, other = _shapes(params, batch_stats), _shapes(from_params, from_stats)
    taken = {module for module, shapes in own.items() if other.get(module) == shapes}

    def merge(tree: Any, source: Any) -> Any:
        leaves = {_path(path): leaf for path, leaf in tree_flatten_with_path(source)[0]}
        return tree_map_with_path(
            # Copied, because a step to which the new network's buffers are donated would use up the other one's, too.
            lambda path, leaf: jnp.array(leaves[_path(path)]) if _module_path(_path(path)) in taken else leaf,
            tree,
        )

    report = Transferred(
        tuple(module for module in own if module in taken),
        tuple(module for module in own if module not in taken),
        tuple(module for module in other if module not in taken),
    )
    return merge(params, from_params), merge(batch_stats, from_stats), report


def start_from(model: Model, source: Weights) -> Model:
    """The same model, initialised with the modules that `transfer` takes from other weights.

    Raises (its `init`):
      ConfigError: no module fits, such as with the weights of a population, which have an axis of members.
    """

    def init(key: Array) -> tuple[Params, BatchStats]:
        params, batch_stats, report = transfer(*model.init(key), *source)
        if not report.taken:
            raise ConfigError(
                "no module of the weights to start from fits the model: of theirs "
                f"({abbreviated(report.unused)}), none has the path, shapes and dtypes of one of the model's "
                f"({abbreviated(report.fresh)})"
            )
        return params, batch_stats

    return Model(init, model.apply)


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern, like those for file names, matches a path or that of a module on it; `*` also matches `/`."""
    parts = path.split("/")
    return any(fnmatchcase("/".join(parts[: end + 1]), pattern) for end in range(len(parts)))


def frozen_parameters(pattern: str, params: Params) -> tuple[str, ...]:
    """The paths of the parameters that a pattern matches.

    Args:
      pattern: as for `matches`.
      params: arrays, or `jax.ShapeDtypeStruct`s.

    Raises:
      ConfigError: it matches none of them, or all.
    """
    paths = [_path(path) for path, _ in tree_flatten_with_path(params)[0]]
    found = tuple(path for path in paths if matches(pattern, path))
    subject = f"the pattern to freeze (--init.freeze) is {pattern!r}"
    if not found:
        raise ConfigError(
            f"{subject}, which matches no parameter: choose one that matches some of {abbreviated(paths)}"
        )
    if len(found) == len(paths):
        raise ConfigError(f"{subject}, which leaves no parameter to train: choose a narrower pattern")
    return found


def freeze(optimizer: optax.GradientTransformation, pattern: str) -> optax.GradientTransformation:
    """Freezes parameters bit for bit: no gradient, momentum or weight decay moves them.

    The optimiser does not see them, so they take no memory in its state and do not count in clipping. The statistics of
    norms are not the optimiser's to freeze: `make_model(config, frozen=frozen_norms(pattern))` does that.

    Args:
      optimizer: the one for the other parameters.
      pattern: matches the paths of the parameters, as for `matches`.

    Raises:
      ConfigError: when the optimiser is initialised, if the pattern matches none of the parameters, or all.
    """

    def labels(params: optax.Params) -> Any:
        return tree_map_with_path(lambda path, _: "frozen" if matches(pattern, _path(path)) else "trained", params)

    parts = optax.partition({"frozen": optax.set_to_zero(), "trained": optimizer}, labels)

    def init(params: optax.Params) -> optax.OptState:
        if jax.tree.leaves(params):  # `optax.tree_map_params` passes none
            frozen_parameters(pattern, params)
        return parts.init(params)

    def update(updates: Any, opt_state: optax.OptState, params: Any = None, **extra: Any) -> Any:
        return parts.update(updates, opt_state, params, **_restrict_to_trained(extra, params, labels))

    return optax.GradientTransformationExtraArgs(init, update)


def _restrict_to_trained(extra: Mapping[str, Any], params: Any, labels: Callable[[Any], Any]) -> dict[str, Any]:
    """What line searches, SAM and Sophia are given besides the gradient, as functions of the trained parameters."""

    def is_masked(leaf: Any) -> bool:
        return isinstance(leaf, optax.MaskedNode)

    def add_frozen(trained: Any) -> Any:
        return jax.tree.map(lambda leaf, own: own if is_masked(leaf) else leaf, trained, params, is_leaf=is_masked)

    def mask_frozen(tree: Any) -> Any:
        return jax.tree.map(lambda leaf, label: leaf if label == "trained" else optax.MaskedNode(), tree, labels(tree))

    def adapt(name: str, value: Any) -> Any:
        if name in ("value_fn", "obj_fn"):
            return lambda trained: value(add_frozen(trained))
        if name == "grad_fn":
            return lambda trained, *others: mask_frozen(value(add_frozen(trained), *others))
        return mask_frozen(value) if name == "grad" else value

    return {name: adapt(name, value) for name, value in extra.items()}


def frozen_norms(pattern: str) -> Callable[[str], bool]:
    """Makes a function that tells by its path whether a norm is frozen: whether a pattern matches both its parameters.

    For `make_model(config, frozen=...)`: a frozen norm normalises by its running statistics in training, too.
    """
    return lambda path: all(matches(pattern, f"{path}/{name}") for name in ("scale", "bias"))


def _shapes(params: Params, batch_stats: BatchStats) -> Mapping[str, Mapping[tuple[str, str], Any]]:
    """The shape and dtype of each leaf, by module and by kind and path."""
    shapes: dict[str, dict[tuple[str, str], Any]] = {}
    for kind, tree in (("params", params), ("batch_stats", batch_stats)):
        for path, leaf in tree_flatten_with_path(tree)[0]:
            name = _path(path)
            shapes.setdefault(_module_path(name), {})[kind, name] = (jnp.shape(leaf), jnp.result_type(leaf))
    return shapes


def _path(path: Any) -> str:
    return keystr(path, simple=True, separator="/")


def _module_path(path: str) -> str:
    """The path of the module that a leaf belongs to, or the leaf's own path if it belongs to none."""
    return path.rpartition("/")[0] or path
