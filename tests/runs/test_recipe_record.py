"""A run that was begun with parts of somebody's own goes on with them alone."""

from pathlib import Path
from typing import Any

import pytest

from fmnist_jax.errors import CheckpointError
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.runs import recipe_record
from fmnist_jax.runs.directory import RunDirectory


def own(*arguments: Any, **kind: Any) -> Any:
    return make_recipe(*arguments, **kind)


def test_only_a_function_of_ones_own_has_a_name() -> None:
    assert recipe_record.custom_recipe_name(make_recipe) is None
    assert recipe_record.custom_recipe_name(own) == "own"


@pytest.mark.parametrize(("began", "now"), [(None, "own"), ("own", None)])
def test_a_run_does_not_go_on_with_another_kind_of_recipe(tmp_path: Path, began: str | None, now: str | None) -> None:
    recipe_record.write(RunDirectory(tmp_path), began, False)
    recipe_record.refuse_other(tmp_path, began)
    with pytest.raises(CheckpointError, match=r"make_recipe=own.*: use the same, or another run directory"):
        recipe_record.refuse_other(tmp_path, now)


def test_what_a_start_that_was_cut_short_has_left_is_removed(tmp_path: Path) -> None:
    recipe_record.write(RunDirectory(tmp_path), "own", False)
    recipe_record.write(RunDirectory(tmp_path), None, False)
    recipe_record.refuse_other(tmp_path, None)


def test_a_file_of_somebody_elses_stays(tmp_path: Path) -> None:
    (tmp_path / recipe_record.RECIPE_FILE).write_text('{"flour": 500}')
    recipe_record.write(RunDirectory(tmp_path), None, False)
    recipe_record.refuse_other(tmp_path, None)
    assert (tmp_path / recipe_record.RECIPE_FILE).read_text() == '{"flour": 500}'


def test_a_recipe_may_be_called_otherwise_when_its_run_goes_on(tmp_path: Path) -> None:
    recipe_record.write(RunDirectory(tmp_path), "own", False)
    recipe_record.refuse_other(tmp_path, "renamed")
