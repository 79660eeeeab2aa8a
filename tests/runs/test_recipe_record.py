"""A run that was started with a custom recipe resumes only with one, and vice versa."""

from pathlib import Path
from typing import Any

import pytest

from fmnist_jax.errors import CheckpointError
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.runs import recipe_record
from fmnist_jax.runs.directory import RunDirectory


def own(*args: Any, **kwargs: Any) -> Any:
    return make_recipe(*args, **kwargs)


def test_custom_recipe_name_is_none_for_the_packages_make_recipe() -> None:
    assert recipe_record.custom_recipe_name(make_recipe) is None
    assert recipe_record.custom_recipe_name(own) == "own"


@pytest.mark.parametrize(("recorded", "current"), [(None, "own"), ("own", None)])
def test_refuse_other_rejects_another_kind_of_recipe(tmp_path: Path, recorded: str | None, current: str | None) -> None:
    recipe_record.write(RunDirectory(tmp_path), recorded, False)
    recipe_record.refuse_other(tmp_path, recorded)
    with pytest.raises(CheckpointError, match=r"make_recipe=own.*: use the same, or another run directory"):
        recipe_record.refuse_other(tmp_path, current)


def test_record_of_an_interrupted_start_is_removed(tmp_path: Path) -> None:
    recipe_record.write(RunDirectory(tmp_path), "own", False)
    recipe_record.write(RunDirectory(tmp_path), None, False)
    recipe_record.refuse_other(tmp_path, None)


def test_unrelated_recipe_json_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / recipe_record.RECIPE_FILE).write_text('{"flour": 500}')
    recipe_record.write(RunDirectory(tmp_path), None, False)
    recipe_record.refuse_other(tmp_path, None)
    assert (tmp_path / recipe_record.RECIPE_FILE).read_text() == '{"flour": 500}'


def test_recorded_name_is_that_of_a_custom_recipe_only(tmp_path: Path) -> None:
    assert recipe_record.recorded_name(tmp_path) is None
    recipe_record.write(RunDirectory(tmp_path), "own", False)
    assert recipe_record.recorded_name(tmp_path) == "own"
    (tmp_path / recipe_record.RECIPE_FILE).write_text('{"flour": 500}')
    assert recipe_record.recorded_name(tmp_path) is None


def test_custom_recipe_may_be_renamed_when_its_run_resumes(tmp_path: Path) -> None:
    recipe_record.write(RunDirectory(tmp_path), "own", False)
    recipe_record.refuse_other(tmp_path, "renamed")
