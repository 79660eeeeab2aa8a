"""The stops of a run are the same wherever it was cut, and close enough together."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist_jax.config import Config, DataConfig
from fmnist_jax.stops import Stop, stops

_BASE = Config(data=DataConfig(name="synthetic", synthetic_train_size=200, validation_size=40))

_CONFIGS = st.builds(
    lambda epochs, batch_size, eval_every, log_every, checkpoint_every: replace(
        _BASE,
        train=replace(_BASE.train, epochs=epochs, batch_size=batch_size, eval_every=eval_every),
        run=replace(_BASE.run, log_every=log_every, checkpoint_every=checkpoint_every),
    ),
    epochs=st.integers(1, 5),
    batch_size=st.integers(1, 70),
    eval_every=st.integers(1, 3),
    log_every=st.integers(1, 30),
    checkpoint_every=st.integers(1, 40),
)


@given(_CONFIGS, st.data())
@settings(max_examples=100)
def test_stops_are_the_same_wherever_a_run_was_cut(config: Config, draw: st.DataObject) -> None:
    whole = list(stops(config, 0))
    steps = [0, *(stop.step for stop in whole)]
    saves = [0, *(stop.step for stop in whole if stop.save)]
    assert all(0 < later - earlier <= config.run.log_every for earlier, later in pairwise(steps))
    limit = config.run.checkpoint_every + config.run.log_every
    assert all(later - earlier < limit for earlier, later in pairwise(saves))
    assert whole[-1] == Stop(config.total_steps, evaluate=True, save=True)
    assert sum(stop.evaluate for stop in whole) >= config.train.epochs // config.train.eval_every
    cut = draw.draw(st.sampled_from(range(len(whole))))
    assert list(stops(config, whole[cut].step)) == whole[cut + 1 :]


def test_without_validation_images_nothing_is_evaluated_but_everything_is_saved() -> None:
    config = replace(_BASE, data=replace(_BASE.data, validation_size=0))
    whole = list(stops(config, 0))
    assert not any(stop.evaluate for stop in whole)
    assert whole[-1] == Stop(config.total_steps, evaluate=False, save=True)


def test_the_published_sizes_by_hand() -> None:
    config = Config(run=replace(Config().run, log_every=200, checkpoint_every=400))
    # 55,000 images in batches of 128 are 429.7 steps an epoch.
    assert list(stops(config, 0))[:5] == [
        Stop(200, evaluate=False, save=False),
        Stop(400, evaluate=False, save=True),
        Stop(430, evaluate=True, save=True),
        Stop(600, evaluate=False, save=False),
        Stop(800, evaluate=False, save=True),
    ]
