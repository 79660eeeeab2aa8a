"""What processes agree upon, with the others played."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

from fmnist_jax.config.record import to_dict
from fmnist_jax.config.schema import Config, DataConfig, InitConfig, RunConfig, TrainConfig
from fmnist_jax.errors import FmnistError
from fmnist_jax.runs import agreement, processes

FIRST = Config(train=TrainConfig(seed=3), run=RunConfig(dir=Path("runs/a"), log_every=7))


@pytest.fixture
def beside_first(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has this process be the second of two, and sets what the first one says."""

    def be_second(said: Any) -> None:
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        monkeypatch.setattr(processes, "allgather_json", lambda own: [said, own])

    return be_second


def agreed(beside_first: Any, first: Config, own: Config) -> Config:
    beside_first(to_dict(first))
    return agreement.adopt_first_config(own)


def test_one_process_alone_trains_what_it_is_told() -> None:
    assert agreement.adopt_first_config(FIRST) is FIRST


def test_a_process_without_the_flags_of_the_first_takes_all_of_them(
    beside_first: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert agreed(beside_first, FIRST, Config()) == FIRST
    assert capfd.readouterr().err.startswith("note: process 1 has different values of train.seed from the first")
    assert agreed(beside_first, FIRST, replace(FIRST, run=RunConfig())) == FIRST
    assert capfd.readouterr().err == ""


def test_each_machine_keeps_the_places_of_its_own_data(beside_first: Any, capfd: pytest.CaptureFixture[str]) -> None:
    there, here = DataConfig(dir=Path("/there"), raw_dir=Path("/raw")), DataConfig(dir=Path("/here"))
    assert agreed(beside_first, replace(FIRST, data=there), replace(FIRST, data=here)).data == here
    npz = DataConfig(name="npz", file=Path("/there.npz"), total=90)
    assert agreed(beside_first, replace(FIRST, data=npz), FIRST).data == npz
    own = replace(npz, file=Path("/here.npz"), total=0)
    capfd.readouterr()
    assert agreed(beside_first, replace(FIRST, data=npz), replace(FIRST, data=own)).data == replace(own, total=90)
    assert capfd.readouterr().err == "", "how many images there are may be known to the first alone"
    assert agreed(beside_first, FIRST, replace(FIRST, data=own)).data == FIRST.data


@pytest.mark.parametrize(
    ("first", "own", "agreed_on"), [("a", None, "a"), ("a", "b", "b"), (None, "b", None), (None, None, None)]
)
def test_weights_to_start_from_lie_where_each_machine_has_them_if_the_first_starts_from_any(
    first: str | None, own: str | None, agreed_on: str | None, beside_first: Any
) -> None:
    configs = [replace(FIRST, init=InitConfig(source=name and Path(name))) for name in (first, own)]  # type: ignore[arg-type]
    assert agreed(beside_first, *configs).init.source == (agreed_on and Path(agreed_on))


def test_what_has_another_digest_elsewhere_is_refused_by_all(beside_first: Any) -> None:
    beside_first("a" * 64)
    agreement.refuse_disagreement("images", "a" * 64, "data set")
    with pytest.raises(
        FmnistError, match=r"different images \(process 0 a{12}…, process 1 b{12}…\): give .* data set"
    ) as caught:
        agreement.refuse_disagreement("images", "b" * 64, "data set")
    assert caught.value.collective
