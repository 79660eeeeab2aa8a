"""Whether a run trains parts of somebody's own, which its configuration does not tell."""

from functools import partial
from pathlib import Path
from typing import Any

from fmnist_jax.errors import CheckpointError
from fmnist_jax.functional.recipe import MakeRecipe, make_recipe
from fmnist_jax.runs.directory import RunDirectory, read_json

FILE = "recipe.json"
"""Of a run that was given a `make_recipe`: its name, and whether its network is another than the configuration's."""

_NAME, _OWN_NETWORK = "make_recipe", "own_network"


def name_of(given: MakeRecipe) -> str | None:
    """The name of a function that takes the place of `make_recipe`; None of that itself."""
    return None if given is make_recipe else _name(given)


def _name(given: Any) -> str:
    if isinstance(given, partial):
        return f"partial({', '.join([_name(given.func), *given.keywords])})"
    return str(getattr(given, "__qualname__", type(given).__name__))


def write(directory: RunDirectory, name: str | None, own_network: bool) -> None:
    """Records the name; without one, removes what a start that was cut short has left."""
    if name is not None:
        directory.write_json(FILE, {_NAME: name, _OWN_NETWORK: own_network})
    elif _NAME in _read(directory.path):  # and not a file of somebody's own
        (directory.path / FILE).unlink()


def _read(directory: Path) -> dict[str, Any]:
    return read_json(directory / FILE) or {}


def refuse_other(directory: Path, name: str | None) -> None:
    """Checks that a run is taken up with a recipe of somebody's own if it began with one, whatever that is called.

    Raises:
      CheckpointError: it does not.
    """
    began = _read(directory).get(_NAME)
    if (began is None) != (name is None):
        was, now = (f"by make_recipe={each}" if each else "by the package's own recipe" for each in (began, name))
        raise CheckpointError(f"{directory} was begun {was}, and now is {now}: give the same, or another run directory")


def refuse_unknown_network(directory: Path, name: str | None) -> None:
    """Checks that a run's network is not taken for that of its configuration.

    Args:
      directory: of the run.
      name: of the function that composes the network; None of `make_recipe`, by the configuration.

    Raises:
      CheckpointError: it is another.
    """
    record = _read(directory)
    if name is None and record.get(_OWN_NETWORK):
        raise CheckpointError(
            f"{directory} has a network that its configuration does not tell, from make_recipe={record[_NAME]}: give "
            f"that function to fmnist_jax.load_trained(RUN, make_recipe=...), which has its predictions"
        )
