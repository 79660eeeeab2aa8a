"""Problems with spreading a run over devices and processes."""

from collections.abc import Iterator

from fmnist_jax.config.schema import Config, ParallelConfig


def problems(config: Config) -> Iterator[str]:
    """Yields the problems that can be found before the devices are known."""
    yield from _process_problems(config.parallel)
    yield from _member_problems(config)
    if isinstance(config.parallel.devices, int):
        yield from sharing_problems(config, config.parallel.devices)


def _process_problems(parallel: ParallelConfig) -> Iterator[str]:
    given = [
        f"--parallel.{name} {value}"
        for name, value, unset in (
            ("coordinator", parallel.coordinator, None),
            ("processes", parallel.processes, 0),
            ("process-id", parallel.process_id, -1),
        )
        if value != unset
    ]
    if given and not parallel.distributed:
        yield f"{' and '.join(given)} cannot be used by a single process: add --parallel.distributed, or omit that"
        return
    if given and len(given) < 3:
        yield (
            f"several processes need more than {' and '.join(given)}: give --parallel.coordinator, "
            f"--parallel.processes and --parallel.process-id, or none of them where the cluster provides them"
        )
    elif given and parallel.process_id >= parallel.processes:
        yield (
            f"--parallel.process-id is {parallel.process_id}, but there are {parallel.processes} processes: "
            f"choose a value in [0, {parallel.processes - 1}]"
        )
    if parallel.coordinator is not None and not _is_address(parallel.coordinator):
        yield f"--parallel.coordinator is {parallel.coordinator!r}: give the first process's host:port"


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


def _member_problems(config: Config) -> Iterator[str]:
    last = config.train.seed + config.population.seeds - 1
    if last >= 2**32:
        yield (
            f"--train.seed is {config.train.seed} and --population.seeds {config.population.seeds}, which makes {last} "
            f"the last seed: choose values with a sum of at most {2**32}"
        )
    if config.parallel.axis == "member" and config.population.seeds == 1:
        yield "--parallel.axis is member, but --population.seeds is 1: choose data, or several members"


def sharing_problems(config: Config, devices: int) -> Iterator[str]:
    """Yields what the devices cannot share evenly: the images of a batch, or the members of a population.

    Args:
      config: the configuration of the run.
      devices: the number of devices to use.
    """
    if config.parallel.axis == "member":
        flag, total = "--population.seeds", config.population.seeds
    else:
        flag, total = "--train.batch-size", config.train.batch_size
    if total % devices:
        divisor = max(number for number in range(1, devices) if total % number == 0)
        yield (
            f"{flag} is {total}, which {devices} devices cannot share evenly: "
            f"choose {nearest_multiples(total, devices)}, or --parallel.devices {divisor}"
        )


def nearest_multiples(whole: int, parts: int) -> str:
    """The nearest multiples of `parts` below `whole`, unless that is 0, and above it, in words."""
    below = whole // parts * parts
    return " or ".join(str(number) for number in (below, below + parts) if number)
