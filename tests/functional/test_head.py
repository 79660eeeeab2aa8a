"""A new head on old features."""

import jax
import numpy as np
import pytest

from fmnist_jax.config.schema import ModelConfig
from fmnist_jax.functional.head import replace_head
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.model import make_model


@pytest.mark.parametrize("family", ["plain", "resnet"])
def test_a_new_head_is_what_the_model_of_so_many_classes_would_draw_and_all_else_stays(family: str) -> None:
    config = ModelConfig(family=family, widths=(4, 6), depths=(1, 1))  # type: ignore[arg-type]
    key = jax.random.key(3)
    old, stats = jax.jit(make_model(config).init)(key)
    new = replace_head(old, key, 5)
    like = jax.eval_shape(make_model(config, num_classes=5).init, key)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (new, stats)) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), like
    )
    assert all(new[name] is old[name] for name in old if name != "Dense_0")
    assert old["Dense_0"]["bias"].shape == (10,)


def test_a_kernel_is_drawn_as_flax_draws_it() -> None:
    config = ModelConfig(family="plain", widths=(64,), depths=(1,))
    params, _ = jax.jit(make_model(config, num_classes=100).init)(jax.random.key(0))
    drawn = replace_head(params, jax.random.key(1), 100)["Dense_0"]
    expected = np.asarray(params["Dense_0"]["kernel"])
    assert np.std(drawn["kernel"]) == pytest.approx(np.std(expected), rel=0.01)
    assert np.abs(drawn["kernel"]).max() == pytest.approx(np.abs(expected).max(), rel=0.01)  # cut off at two deviations
    assert not drawn["bias"].any()


def test_a_new_head_is_of_single_precision_under_x64_too(variables: tuple[Params, BatchStats]) -> None:
    with jax.enable_x64(True):
        head = replace_head(variables[0], jax.random.key(0), 5)["Dense_0"]
    assert head["kernel"].dtype == head["bias"].dtype == np.float32


def test_members_are_refused(variables: tuple[Params, BatchStats]) -> None:
    members = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), variables[0])
    with pytest.raises(ValueError, match=r"the kernel of Dense_0 has shape \[2, .*: expected \[features, classes\]"):
        replace_head(members, jax.random.key(0), 5)


def test_parameters_without_such_a_head_are_refused(variables: tuple[Params, BatchStats]) -> None:
    params = {name: leaves for name, leaves in variables[0].items() if name != "Dense_0"}
    with pytest.raises(ValueError, match=r"params have .*Conv_0.* but no module Dense_0: expected those of"):
        replace_head(params, jax.random.key(0), 5)


def test_a_dense_head_that_is_an_array_is_refused() -> None:
    with pytest.raises(ValueError, match="but no module Dense_0: expected those of a make_model"):
        replace_head({"Dense_0": np.zeros((4, 10))}, jax.random.key(0), 5)
