"""Profiling: traces the requested number of steps and leaves the state unchanged for training."""

import gzip
import json
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from fmnist_jax import Batch, Model, OptimConfig, init_state, make_optimizer, make_schedule, make_train_step
from fmnist_jax.functional.train_step import make_train_chunk
from fmnist_jax.runs import profiling
from fmnist_jax.runs.leaves import state_digest


@pytest.mark.parametrize("steps", [2, 5])
def test_trace_covers_the_requested_steps_and_leaves_the_state_unchanged(
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
    counts = [count for name, count in operations.items() if name.startswith(("convolution", "conv_general", "dot"))]
    assert set(counts) == {steps}


@pytest.mark.parametrize(("total", "limit", "expected"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 3, [2]), (0, 3, [])])
def test_chunk_sizes_add_up_to_the_total_and_respect_the_maximum(total: int, limit: int, expected: list[int]) -> None:
    assert list(profiling.chunk_sizes(total, limit)) == expected
