"""The stops of a run do not depend on where it was cut, and are close enough together."""

from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings, strategies as st

from fmnist_jax.runs.stops import Stop, stops


class Plan(NamedTuple):
    """Arguments of `stops`, except for the start."""

    total_steps: int
    eval_steps: list[int]
    log_every: int
    save_every: int

    def stops(self, start: int) -> list[Stop]:
        total, eval_steps, log_every, save_every = self
        return list(stops(start, total, eval_steps, log_every=log_every, save_every=save_every))


_PLANS = st.integers(1, 400).flatmap(
    lambda total: st.builds(
        Plan, st.just(total), st.lists(st.integers(1, total), max_size=5), st.integers(1, 30), st.integers(1, 40)
    )
)


@given(_PLANS, st.data())
@settings(max_examples=100)
def test_stops_do_not_depend_on_where_a_run_was_cut(plan: Plan, data: st.DataObject) -> None:
    all_stops = plan.stops(0)
    steps = [0, *(stop.step for stop in all_stops)]
    saves = [0, *(stop.step for stop in all_stops if stop.save)]
    assert all(0 < later - earlier <= plan.log_every for earlier, later in pairwise(steps))
    assert all(later - earlier < plan.save_every + plan.log_every for earlier, later in pairwise(saves))
    assert all_stops[-1] == Stop(plan.total_steps, evaluate=True, save=True)
    assert {stop.step for stop in all_stops if stop.evaluate} == {*plan.eval_steps, plan.total_steps}
    cut = data.draw(st.sampled_from(range(len(all_stops))))
    assert plan.stops(all_stops[cut].step) == all_stops[cut + 1 :]


def test_stops_of_fashion_mnist_in_batches_of_128() -> None:
    # 55,000 images in batches of 128 are 429.7 steps an epoch.
    assert Plan(860, [430, 860], log_every=200, save_every=400).stops(0) == [
        Stop(200, evaluate=False, save=False),
        Stop(400, evaluate=False, save=True),
        Stop(430, evaluate=True, save=True),
        Stop(600, evaluate=False, save=False),
        Stop(800, evaluate=False, save=True),
        Stop(860, evaluate=True, save=True),
    ]
