"""Compiler options: taken where they are known, and left out where they are not."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.system import compilation


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    compilation.compiler_options.cache_clear()
    yield
    compilation.compiler_options.cache_clear()


def test_on_a_cpu_a_matrix_product_goes_to_eigen() -> None:
    a = jnp.asarray(np.random.default_rng(0).normal(size=(256, 256)), jnp.float32)
    product = jax.jit(lambda a: a @ a, compiler_options=compilation.compiler_options())
    np.testing.assert_allclose(product(a), np.asarray(a) @ np.asarray(a), rtol=1e-4, atol=1e-4)
    assert "ynn_fusion" not in str(product.lower(a).compile().as_text())
    assert "ynn_fusion" in str(jax.jit(lambda a: a @ a).lower(a).compile().as_text())


def test_options_that_xla_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_WITHOUT_YNNPACK", {"xla_cpu_no_such_option": ""})
    assert compilation.compiler_options() == {}


def test_other_backends_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert compilation.compiler_options() == {}


def test_a_function_for_one_call_computes_the_same() -> None:
    key = jax.random.key(0)
    quick = jax.jit(lambda key: jax.random.normal(key, (50,)), compiler_options=dict(compilation.FOR_ONE_CALL))
    np.testing.assert_allclose(quick(key), jax.random.normal(key, (50,)), rtol=1e-5)
