import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.functional.pixels import are_bytes, check_floats


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_floats_are_not_bytes(dtype: type) -> None:
    images = jnp.zeros((1, 2, 2, 1), dtype)
    assert not are_bytes(images)
    check_floats(images)


def test_bytes_are_not_floats() -> None:
    assert are_bytes(jnp.zeros((1, 2, 2, 1), jnp.uint8))
    with pytest.raises(ValueError, match=r"images are uint8: expected floats in \[0, 1\]; normalize them"):
        check_floats(jnp.zeros((1, 2, 2, 1), jnp.uint8))


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.uint16, np.bool_, np.complex64])
def test_whatever_else_is_refused_by_name_while_tracing(dtype: type) -> None:
    images = jax.ShapeDtypeStruct((1, 2, 2, 1), dtype)
    name = np.dtype(dtype).name
    with pytest.raises(ValueError, match=rf"images are {name}: expected uint8 in \[0, 255\] or floats in \[0, 1\]"):
        jax.eval_shape(lambda images: jnp.float32(are_bytes(images)), images)
    with pytest.raises(ValueError, match=rf"images are {name}: expected floats"):
        jax.eval_shape(check_floats, images)
