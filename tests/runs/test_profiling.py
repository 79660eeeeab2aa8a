"""A profile: as many steps as were asked for, and a state that training can still begin from."""

import gzip
import json
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax import Batch, Model, OptimConfig, init_state, make_optimizer, make_schedule, make_train_step
from fmnist_jax.functional.train_step import make_train_chunk
from fmnist_jax.runs import profiling
from fmnist_jax.runs.leaves import state_digest


@pytest.mark.parametrize("steps", [2, 5])
def test_a_trace_has_the_steps_asked_for_and_leaves_the_state_alone(
    tmp_path: Path, model: Model, batch: Batch, steps: int
) -> None:
    optimizer = make_optimizer(OptimConfig(), make_schedule(OptimConfig(), 10))
    state = init_state(model, optimizer, jax.random.key(0))
    data = Batch(jnp.asarray(batch.images), jnp.asarray(batch.labels))
    before = state_digest(state)
    chunk = jax.jit(make_train_chunk(make_train_step(model, optimizer), 4, max_steps=3), donate_argnums=0)
    profiling.trace(chunk, state, data, profiling.chunk_sizes(steps, 3), tmp_path)
    assert state_digest(state) == before
    (path,) = tmp_path.glob("plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    operations = Counter(event["name"] for event in events if "hlo_op" in event.get("args", {}))
    products = [count for name, count in operations.items() if name.startswith(("convolution", "conv_general", "dot"))]
    assert products
    assert np.all(np.array(products) % steps == 0)


@pytest.mark.parametrize(("total", "most", "parts"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 3, [2]), (0, 3, [])])
def test_parts_add_up_and_none_is_too_long(total: int, most: int, parts: list[int]) -> None:
    assert list(profiling.chunk_sizes(total, most)) == parts
