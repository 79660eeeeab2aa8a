"""Replacing the head of a network."""

import jax
import numpy as np
import pytest

from fmnist_jax.config.schema import ModelConfig
from fmnist_jax.functional.head import replace_head
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.model import make_model


@pytest.mark.parametrize("family", ["plain", "resnet"])
def test_replace_head_gives_the_shapes_for_the_class_count_and_keeps_other_modules(family: str) -> None:
    config = ModelConfig(family=family, widths=(4, 6), depths=(1, 1))  # type: ignore[arg-type]
    key = jax.random.key(3)
    old, stats = jax.jit(make_model(config).init)(key)
    new = replace_head(old, key, 5)
    expected = jax.eval_shape(make_model(config, num_classes=5).init, key)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (new, stats)) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), expected
    )
    assert all(new[name] is old[name] for name in old if name != "Dense_0")
    assert old["Dense_0"]["bias"].shape == (10,)


def test_new_head_kernel_is_distributed_like_flax_init() -> None:
    config = ModelConfig(family="plain", widths=(64,), depths=(1,))
    params, _ = jax.jit(make_model(config, num_classes=100).init)(jax.random.key(0))
    head = replace_head(params, jax.random.key(1), 100)["Dense_0"]
    expected = np.asarray(params["Dense_0"]["kernel"])
    assert np.std(head["kernel"]) == pytest.approx(np.std(expected), rel=0.01)
    assert np.abs(head["kernel"]).max() == pytest.approx(np.abs(expected).max(), rel=0.01)  # truncated at 2 sigma
    assert not head["bias"].any()


def test_new_head_is_float32_under_x64(variables: tuple[Params, BatchStats]) -> None:
    with jax.enable_x64(True):
        head = replace_head(variables[0], jax.random.key(0), 5)["Dense_0"]
    assert head["kernel"].dtype == head["bias"].dtype == np.float32


def test_replace_head_rejects_stacked_members(variables: tuple[Params, BatchStats]) -> None:
    members = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), variables[0])
    with pytest.raises(ValueError, match=r"the kernel of Dense_0 has shape \[2, .*: expected \[features, classes\]"):
        replace_head(members, jax.random.key(0), 5)


def test_replace_head_rejects_params_without_a_dense_head(variables: tuple[Params, BatchStats]) -> None:
    params = {name: leaves for name, leaves in variables[0].items() if name != "Dense_0"}
    with pytest.raises(ValueError, match=r"params have .*Conv_0.* but no module Dense_0: expected those of"):
        replace_head(params, jax.random.key(0), 5)


def test_replace_head_rejects_a_head_that_is_an_array() -> None:
    with pytest.raises(ValueError, match="but no module Dense_0: expected those of a make_model"):
        replace_head({"Dense_0": np.zeros((4, 10))}, jax.random.key(0), 5)
