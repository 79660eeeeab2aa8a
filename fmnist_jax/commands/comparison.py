"""A page that compares several runs, from the files that they have written."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from fmnist_jax.commands import reporting
from fmnist_jax.config.paths import display_name, expand
from fmnist_jax.config.schema import DataConfig
from fmnist_jax.data.dataset import Splits, load
from fmnist_jax.data.places import DataPaths, with_local_paths
from fmnist_jax.errors import FmnistError
from fmnist_jax.runs import dataset_record, recipe_record
from fmnist_jax.runs.directory import read_records
from fmnist_jax.system.storage import check_file, make_directory, write_text
from fmnist_jax.views import comparison_page


def run(
    directories: Sequence[str | os.PathLike[str]],
    data: DataPaths | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    splits: Splits | None = None,
) -> Path:
    """Writes a page that compares the newest checkpoints of runs, and returns its path.

    Args:
      directories: those of two or more runs, in which `~` may stand for a home directory; the others are compared with
        the first.
      data: where the images are, if not where the runs found them.
      out: the file; by default `comparison.html` in the folder that holds all runs.
      splits: the images themselves, for runs that were given them in Python.

    Raises:
      FmnistError: a directory has no run or no checkpoint, the runs differ in data set or classes, the data set is
        unavailable, or the page cannot be written.
    """
    given = [expand(directory) for directory in directories]
    paths = [Path(os.path.normpath(directory.absolute())) for directory in given]
    shared = Path(os.path.commonpath([place.parent for place in paths]))
    target = shared / "comparison.html" if out is None else expand(out)
    check_file(target, "--out")

    @functools.cache
    def splits_of(config: DataConfig) -> Splits:
        return load(with_local_paths(config, data)) if splits is None else splits

    runs: list[comparison_page.Run] = []
    for directory, path in zip(given, paths, strict=True):
        report_data = reporting.read(directory, splits_of)
        runs.append(
            comparison_page.Run(
                name=path.relative_to(shared).as_posix(),
                config=report_data.config,
                step=report_data.step,
                records=[record for record in read_records(directory) if record["step"] <= report_data.step],
                summary=report_data.summary,
                test=report_data.test,
                logits=report_data.predicted.logits,
                custom_recipe=recipe_record.recorded_name(directory),
            )
        )
        refuse_other_classes(given[0], runs[0], directory, runs[-1])
    make_directory(target.absolute().parent)
    write_text(target, comparison_page.render(display_name(shared), runs))
    return target


def refuse_other_classes(
    first: Path, reference: comparison_page.Run, directory: Path, other: comparison_page.Run
) -> None:
    """Checks that two runs can be compared.

    Raises:
      FmnistError: their data sets, image shapes or classes differ.
    """
    kinds = [(run.config.data.name, run.test.image_shape, run.test.class_names) for run in (reference, other)]
    if kinds[0] != kinds[1]:
        raise FmnistError(
            f"{first} uses {_describe_data(reference)}, and {directory} {_describe_data(other)}: compare runs on "
            "the same data set"
        )


def _describe_data(run: comparison_page.Run) -> str:
    return f"{run.config.data.name}, {dataset_record.to_text(dataset_record.describe(run.test))}"
