"""Agreement between processes, with the other processes simulated."""

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
def as_second_process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this process the second of two; called with the value that the first one sends."""

    def simulate_first(first_value: Any) -> None:
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        monkeypatch.setattr(processes, "allgather_json", lambda value: [first_value, value])

    return simulate_first


def adopt(as_second_process: Any, first: Config, second: Config) -> Config:
    as_second_process(to_dict(first))
    return agreement.adopt_first_config(second)


def test_single_process_keeps_its_own_config() -> None:
    assert agreement.adopt_first_config(FIRST) is FIRST


def test_second_process_adopts_first_config_and_notes_differences_outside_run_section(
    as_second_process: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert adopt(as_second_process, FIRST, Config()) == FIRST
    assert capfd.readouterr().err.startswith("note: process 1 has different values of train.seed from the first")
    assert adopt(as_second_process, FIRST, replace(FIRST, run=RunConfig())) == FIRST
    assert capfd.readouterr().err == ""


def test_each_process_keeps_its_local_data_paths(as_second_process: Any, capfd: pytest.CaptureFixture[str]) -> None:
    remote, local = DataConfig(dir=Path("/there"), raw_dir=Path("/raw")), DataConfig(dir=Path("/here"))
    assert adopt(as_second_process, replace(FIRST, data=remote), replace(FIRST, data=local)).data == local
    npz = DataConfig(name="npz", file=Path("/there.npz"), total=90)
    assert adopt(as_second_process, replace(FIRST, data=npz), FIRST).data == npz
    local_npz = replace(npz, file=Path("/here.npz"), total=0)
    capfd.readouterr()
    assert adopt(as_second_process, replace(FIRST, data=npz), replace(FIRST, data=local_npz)).data == replace(
        local_npz, total=90
    )
    assert capfd.readouterr().err == "", "only the first process may know the number of images"
    assert adopt(as_second_process, FIRST, replace(FIRST, data=local_npz)).data == FIRST.data


@pytest.mark.parametrize(
    ("first", "second", "expected"), [("a", None, "a"), ("a", "b", "b"), (None, "b", None), (None, None, None)]
)
def test_init_source_prefers_the_local_path_if_first_process_has_a_source(
    first: str | None, second: str | None, expected: str | None, as_second_process: Any
) -> None:
    configs = [replace(FIRST, init=InitConfig(source=name and Path(name))) for name in (first, second)]  # type: ignore[arg-type]
    assert adopt(as_second_process, *configs).init.source == (expected and Path(expected))


def test_digest_mismatch_between_processes_raises_a_collective_error(as_second_process: Any) -> None:
    as_second_process("a" * 64)
    agreement.refuse_disagreement("images", "a" * 64, "data set")
    with pytest.raises(
        FmnistError, match=r"different images \(process 0 a{12}…, process 1 b{12}…\): give .* data set"
    ) as exc_info:
        agreement.refuse_disagreement("images", "b" * 64, "data set")
    assert exc_info.value.collective
