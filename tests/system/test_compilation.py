"""Compiler options, used where XLA knows them and omitted where it does not, and its errors about memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from fmnist_jax.errors import DeviceMemoryError
from fmnist_jax.system import compilation


def test_cpu_options_keep_products_and_sums_out_of_ynnpack() -> None:
    a = jnp.asarray(np.random.default_rng(0).normal(size=(256, 256)), jnp.float32)

    def product_and_sum(a: Array) -> tuple[Array, Array]:
        return a @ a, a.sum()

    compiled = jax.jit(product_and_sum, compiler_options=compilation.compiler_options())
    np.testing.assert_allclose(compiled(a)[0], np.asarray(a) @ np.asarray(a), rtol=1e-4, atol=1e-4)
    assert "ynn_fusion" not in str(compiled.lower(a).compile().as_text())
    assert "ynn_fusion" in str(jax.jit(product_and_sum).lower(a).compile().as_text())


def test_compiler_options_returns_a_fresh_copy() -> None:
    options = compilation.compiler_options()
    before = dict(options)
    options["xla_cpu_no_such_option"] = "1"
    assert compilation.compiler_options() == before


def test_options_unknown_to_xla_are_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_LIBRARY_OPTION", "xla_cpu_no_such_option")
    assert compilation.compiler_options() == {}


def test_other_backends_get_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert compilation.compiler_options() == {}


def test_options_for_one_call_do_not_change_results() -> None:
    key = jax.random.key(0)
    jitted = jax.jit(lambda key: jax.random.normal(key, (50,)), compiler_options=dict(compilation.FOR_ONE_CALL))
    np.testing.assert_allclose(jitted(key), jax.random.normal(key, (50,)), rtol=1e-5)


@pytest.mark.parametrize("error_type", compilation.XLA_ERRORS)
def test_only_errors_about_memory_are_explained(error_type: type[Exception]) -> None:
    with (
        pytest.raises(DeviceMemoryError, match="out of memory: halve the batch"),
        compilation.explain_out_of_memory("halve the batch"),
    ):
        raise error_type("RESOURCE_EXHAUSTED: Out of memory allocating 47040000 bytes.")
    other = error_type("INTERNAL: oh")
    with pytest.raises(error_type, match="INTERNAL: oh") as exc_info, compilation.explain_out_of_memory("halve it"):
        raise other
    assert exc_info.value is other
