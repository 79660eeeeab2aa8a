"""What the processes of one run must have in common, so that all train the same."""

from dataclasses import replace

import jax

from fmnist_jax.config.record import differences, from_dict, to_dict
from fmnist_jax.config.schema import Config
from fmnist_jax.errors import FmnistError
from fmnist_jax.runs import processes
from fmnist_jax.system import output


def adopt_first_config(config: Config) -> Config:
    """The configuration of the first process, so that all train the same, but with this machine's own paths and number.

    Other processes may have been given different flags, or be resuming a run that is only on the first one's disk.
    """
    if jax.process_count() == 1:
        return config
    first = from_dict(processes.allgather_json(to_dict(config))[0])
    own_data, total = config.data, first.data.total  # on record in a resumed run; a new one determines it later
    init = replace(config.init, source=first.init.source)
    if others := differences([first, replace(config, data=replace(own_data, total=total), init=init)]):
        output.warn(
            f"note: process {jax.process_index()} has different values of {', '.join(others)} from the first "
            "process, whose values are used"
        )
    data = replace(first.data, dir=own_data.dir, raw_dir=own_data.raw_dir)
    if first.data.name in ("idx", "npz"):  # with no path given here, the first process's applies
        data = replace(
            first.data, raw_dir=own_data.raw_dir or first.data.raw_dir, file=own_data.file or first.data.file
        )
    source = first.init.source and (config.init.source or first.init.source)
    number = config.parallel.process_id
    return replace(
        first,
        data=data,
        init=replace(first.init, source=source),
        parallel=replace(first.parallel, process_id=number),
    )


def refuse_disagreement(what: str, digest: str | None, source: str) -> None:
    """Checks that all processes have the same `what`, by its digest."""
    digests = processes.allgather_json(digest)
    if len(set(digests)) > 1:
        described = ", ".join(f"process {number} {str(found)[:12]}…" for number, found in enumerate(digests))
        error = FmnistError(f"the processes have different {what} ({described}): give all of them the same {source}")
        error.collective = True
        raise error
