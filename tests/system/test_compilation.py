"""Compiler options: taken where they are known, and left out where they are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from fmnist_jax.system import compilation


def test_on_a_cpu_no_product_and_no_sum_goes_to_the_library() -> None:
    a = jnp.asarray(np.random.default_rng(0).normal(size=(256, 256)), jnp.float32)

    def product_and_sum(a: Array) -> tuple[Array, Array]:
        return a @ a, a.sum()

    ours = jax.jit(product_and_sum, compiler_options=compilation.compiler_options())
    np.testing.assert_allclose(ours(a)[0], np.asarray(a) @ np.asarray(a), rtol=1e-4, atol=1e-4)
    assert "ynn_fusion" not in str(ours.lower(a).compile().as_text())
    assert "ynn_fusion" in str(jax.jit(product_and_sum).lower(a).compile().as_text())


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
