"""Whether a run trains parts of somebody's own, which its configuration does not tell."""

from pathlib import Path

from fmnist_jax.errors import CheckpointError
from fmnist_jax.functional.recipe import MakeRecipe, make_recipe
from fmnist_jax.runs.directory import RunDirectory, read_json

FILE = "recipe.json"
"""Of a run that was given a `make_recipe`: its name."""


def name_of(given: MakeRecipe) -> str | None:
    """The name of a function that takes the place of `make_recipe`; None of that itself."""
    return None if given is make_recipe else str(getattr(given, "__qualname__", type(given).__name__))


def write(directory: RunDirectory, name: str | None) -> None:
    """Records the name; without one, removes what a start that was cut short has left."""
    if name is not None:
        directory.write_json(FILE, {"make_recipe": name})
    elif (directory.read_json(FILE) or {}).keys() == {"make_recipe"}:  # and not a file of somebody's own
        (directory.path / FILE).unlink()


def refuse_other(directory: Path, name: str | None) -> None:
    """Checks that a run is taken up with a recipe of somebody's own if it began with one, whatever that is called.

    Raises:
      CheckpointError: it does not.
    """
    began = (read_json(directory / FILE) or {}).get("make_recipe")
    if (began is None) != (name is None):
        was, now = (f"by make_recipe={each}" if each else "by the package's own recipe" for each in (began, name))
        raise CheckpointError(f"{directory} was begun {was}, and now is {now}: give the same, or another run directory")
