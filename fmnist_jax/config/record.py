"""Converts configurations to JSON values and back, and finds the differences between them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fmnist_jax.config.schema import NON_TRAINING_SECTIONS, SECTIONS, Config
from fmnist_jax.errors import ConfigError

_LATER_FIELDS: Mapping[str, frozenset[str]] = {
    "data": frozenset({"file", "total"}),
    "model": frozenset({"pooling"}),
    "optim": frozenset({"rest_lr", "ortho_steps"}),
    "augment": frozenset({"photo_probability"}),
}
"""Fields that runs of earlier versions did not record, by section."""

_ADDED_SECTIONS = frozenset({"init", "population", "parallel"})
"""Sections that runs of earlier versions did not record."""


def to_dict(config: Config) -> dict[str, Any]:
    """Converts a configuration to JSON-compatible values.

    Examples:
      >>> fj.from_dict(fj.to_dict(fj.PRESETS["fast"])) == fj.PRESETS["fast"]
      True
    """

    def to_json(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: to_json(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return list(value)
        return str(value) if isinstance(value, Path) else value

    return to_json(dataclasses.asdict(config))


def to_shareable_dict(config: Config) -> dict[str, Any]:
    """Converts as `to_dict`, but leaves out local paths and the sections that do not affect what is trained."""
    values = {name: value for name, value in to_dict(config).items() if name not in NON_TRAINING_SECTIONS}
    for section in values.keys() & SECTIONS.keys():
        for name in _path_fields(section):
            del values[section][name]
    return values


def _path_fields(section: str) -> set[str]:
    """The fields of a section that say where something is on one machine."""
    return {item.name for item in dataclasses.fields(SECTIONS[section]) if item.type == Path | None}


def from_dict(values: Mapping[str, Any]) -> Config:
    """Inverts `to_dict`.

    Raises:
      ConfigError: a section or field is unknown to this version, or missing. Missing fields of sections that do not
        affect what is trained take their defaults, and so does what earlier versions did not have.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"the configuration is {values!r}: expected its sections")
    if others := sorted(map(str, {"preset", *SECTIONS} ^ {*values, *_ADDED_SECTIONS})):
        raise ConfigError(f"the configuration has different sections from this version: {', '.join(others)}")
    built: dict[str, Any] = {"preset": values["preset"]}
    for section, kind in SECTIONS.items():
        if section not in values:
            continue
        if not isinstance(values[section], Mapping):
            raise ConfigError(f"section {section!r} of the configuration is {values[section]!r}: expected its fields")
        section_values = dict(values[section])
        known = {item.name for item in dataclasses.fields(kind)}
        required = set() if section in NON_TRAINING_SECTIONS else known - _LATER_FIELDS.get(section, frozenset())
        if others := sorted(map(str, (section_values.keys() - known) | (required - section_values.keys()))):
            raise ConfigError(
                f"section {section!r} of the configuration has different fields from this version: {', '.join(others)}"
            )
        built[section] = kind(**section_values)
    return Config(**built)


def diff(old: Config, new: Config) -> list[str]:
    """Lists the fields that differ, each as `section.field: old -> new`."""
    before, after = to_dict(old), to_dict(new)
    lines = [] if old.preset == new.preset else [f"preset: {old.preset} -> {new.preset}"]
    for section in SECTIONS:
        for name, value in before[section].items():
            if value != after[section][name]:
                lines.append(f"{section}.{name}: {value} -> {after[section][name]}")
    return lines


def differences(configs: Sequence[Config]) -> dict[str, list[Any]]:
    """Finds the fields that differ between configurations, except those that do not affect what is trained.

    Returns:
      The values of each configuration, by `section.field`.
    """
    plain = [to_dict(config) for config in configs]
    values_by_field = {"preset": [values["preset"] for values in plain]}
    for section in (name for name in SECTIONS if name not in NON_TRAINING_SECTIONS):
        for name in plain[0][section]:
            if section != "data" or name not in _path_fields(section):
                values_by_field[f"{section}.{name}"] = [values[section][name] for values in plain]
    return {name: values for name, values in values_by_field.items() if any(value != values[0] for value in values)}
