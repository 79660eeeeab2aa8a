"""Compiler options: taken where they are known, and left out where they are not."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.system import compilation


@pytest.mark.parametrize("work", ["training", "evaluation"])
def test_on_a_cpu_a_matrix_product_goes_to_eigen(work: Literal["training", "evaluation"]) -> None:
    a = jnp.asarray(np.random.default_rng(0).normal(size=(256, 256)), jnp.float32)
    product = jax.jit(lambda a: a @ a, compiler_options=compilation.compiler_options(work))
    np.testing.assert_allclose(product(a), np.asarray(a) @ np.asarray(a), rtol=1e-4, atol=1e-4)
    assert "ynn_fusion" not in str(product.lower(a).compile().as_text())
    assert "ynn_fusion" in str(jax.jit(lambda a: a @ a).lower(a).compile().as_text())


@pytest.mark.parametrize(("work", "since"), [("training", (0, 12)), ("evaluation", None)])
def test_the_library_sums_in_training_alone_and_since_it_pays(
    work: Literal["training", "evaluation"], since: tuple[int, int] | None
) -> None:
    x = jnp.ones((64, 14, 14, 32))
    total = jax.jit(lambda x: x.sum((0, 1, 2)), compiler_options=compilation.compiler_options(work))
    np.testing.assert_allclose(total(x), np.full(32, 64 * 14 * 14))
    pays = since is not None and jax.__version_info__ >= since
    assert ("ynn_fusion" in str(total.lower(x).compile().as_text())) == pays


def test_what_a_caller_does_to_the_options_changes_nothing_for_others() -> None:
    options = compilation.compiler_options()
    before = dict(options)
    options["xla_cpu_no_such_option"] = "1"
    assert compilation.compiler_options() == before


def test_options_that_xla_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_LIBRARY_OPTION", "xla_cpu_no_such_option")
    assert compilation.compiler_options() == {}


def test_other_backends_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert compilation.compiler_options() == {}


def test_a_function_for_one_call_computes_the_same() -> None:
    key = jax.random.key(0)
    quick = jax.jit(lambda key: jax.random.normal(key, (50,)), compiler_options=dict(compilation.FOR_ONE_CALL))
    np.testing.assert_allclose(quick(key), jax.random.normal(key, (50,)), rtol=1e-5)
