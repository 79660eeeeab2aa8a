"""Records whether a run trains a user-supplied recipe, which its configuration does not describe."""

from functools import partial
from pathlib import Path
from typing import Any

from fmnist_jax.errors import CheckpointError
from fmnist_jax.functional.recipe import MakeRecipe, make_recipe
from fmnist_jax.runs.directory import RunDirectory, read_json

RECIPE_FILE = "recipe.json"
"""For a run that was given a `make_recipe`: its name, and whether its network differs from the configuration's."""

_NAME, _CUSTOM_NETWORK = "make_recipe", "own_network"


def custom_recipe_name(given: MakeRecipe) -> str | None:
    """The name of a function that takes the place of `make_recipe`; None for that one itself."""
    return None if given is make_recipe else _name(given)


def _name(given: Any) -> str:
    if isinstance(given, partial):
        return f"partial({', '.join([_name(given.func), *given.keywords])})"
    return str(getattr(given, "__qualname__", type(given).__name__))


def write(directory: RunDirectory, name: str | None, custom_network: bool) -> None:
    """Records the name; without one, removes a record that an interrupted start has left."""
    if name is not None:
        directory.write_json(RECIPE_FILE, {_NAME: name, _CUSTOM_NETWORK: custom_network})
    elif recorded_name(directory.path) is not None:  # and not an unrelated file of the user's
        (directory.path / RECIPE_FILE).unlink()


def _read(directory: Path) -> dict[str, Any]:
    return read_json(directory / RECIPE_FILE) or {}


def recorded_name(directory: Path) -> str | None:
    """The name of the function that composed a run's recipe in place of `make_recipe`; None for that one itself."""
    name = _read(directory).get(_NAME)
    return None if name is None else str(name)


def refuse_other(directory: Path, name: str | None) -> None:
    """Checks that a run is opened with a user-supplied recipe, of any name, if and only if it began with one.

    Raises:
      CheckpointError: it is not.
    """
    recorded = recorded_name(directory)
    if (recorded is None) != (name is None):
        raise CheckpointError(
            f"{directory} was started {_origin(recorded)} and is now opened {_origin(name)}: use the same, or another "
            "run directory"
        )


def _origin(name: str | None) -> str:
    return f"with make_recipe={name}" if name is not None else "with the package's own recipe"


def has_custom_network(directory: Path) -> bool:
    """Whether a run's network differs from the one that its configuration describes."""
    return bool(_read(directory).get(_CUSTOM_NETWORK))


def refuse_unknown_network(directory: Path) -> None:
    """Checks that a run's network is the one that its configuration describes, which would be built in its place.

    Raises:
      CheckpointError: it is not.
    """
    if has_custom_network(directory):
        raise CheckpointError(
            f"{directory} has a network that its configuration does not describe, from "
            f"make_recipe={recorded_name(directory)}: give that function to "
            "fmnist_jax.load_trained(RUN, make_recipe=...), which has its predictions"
        )


def refuse_other_network(directory: RunDirectory, name: str | None, custom_network: bool) -> None:
    """Checks that a run is resumed with the kind of network it began with; completes a record that does not say which.

    Raises:
      CheckpointError: it began with that of its configuration and now has another, or vice versa.
    """
    recorded = _read(directory.path).get(_CUSTOM_NETWORK)
    if name is not None and recorded is None:
        write(directory, name, custom_network)
    elif name is not None and recorded != custom_network:
        raise CheckpointError(
            f"{directory.path} was started with {_network(bool(recorded))}, and make_recipe={name} now gives it "
            f"{_network(custom_network)}: use the function that it was started with, or another run directory"
        )


def _network(is_custom: bool) -> str:
    return "a network of its own" if is_custom else "that of its configuration"
