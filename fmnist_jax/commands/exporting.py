"""Export of a checkpoint to a folder of files that run without this package, with a model card."""

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax import Array, export

from fmnist_jax.analysis.assessment import assess
from fmnist_jax.analysis.calibration import best_temperature
from fmnist_jax.analysis.onnx_graph import onnx_model
from fmnist_jax.commands import formats
from fmnist_jax.commands.formats import Format
from fmnist_jax.config import paths
from fmnist_jax.config.record import to_shareable_dict
from fmnist_jax.data.dataset import Splits, digest, load
from fmnist_jax.data.places import DataPaths, with_local_paths
from fmnist_jax.errors import FmnistError
from fmnist_jax.functional.eval_step import make_probabilities
from fmnist_jax.functional.state import param_count
from fmnist_jax.runs import recipe_record, trained
from fmnist_jax.runs.directory import read_json
from fmnist_jax.runs.leaves import snapshot
from fmnist_jax.runs.recorded import read_predictions
from fmnist_jax.runs.resumption import refuse_other_data
from fmnist_jax.runs.trained import Trained
from fmnist_jax.system.environment import package_versions
from fmnist_jax.system.staging import atomic_directory, refuse_taken
from fmnist_jax.system.storage import write_bytes, write_text
from fmnist_jax.views.model_card import Card, render

PLATFORMS = ("cpu", "cuda", "tpu")
"""The platforms that a program is exported for."""

_CARD = "README.md"
_LIMITED: Collection[Format] = ("jaxexport", "onnx")  # flatbuffers and protobuf hold 2 GiB
_MAX_BYTES = 2**31 - 2**24  # which leaves some room for the program


def run(
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    chosen: Sequence[Format] = (),
    which: str = "latest",
    data: DataPaths | None = None,
    *,
    splits: Splits | None = None,
) -> list[str]:
    """Exports a checkpoint of a run to a new directory, which appears complete or not at all.

    Args:
      directory: the run's directory.
      out: the directory to create.
      chosen: formats; if empty, all that can be written.
      which: the checkpoint, as for `trained.load_trained`.
      data: where the images are; needed only if the run has not recorded its predictions for this checkpoint.
      splits: the images themselves, for a run that was given them in Python.

    Returns:
      The names of the files.

    Raises:
      FmnistError: there is no such run or checkpoint, `out` is not empty, a package is missing, or the files cannot be
        written.
    """
    directory, out = paths.expand(directory), paths.expand(out)
    refuse_taken(out, "OUT")
    format_files = {name: formats.FORMAT_FILES[name] for name in formats.choose(chosen).formats}
    model = trained.load_trained(directory, which)
    _refuse_large(model, format_files)
    files = [*(format_file.file for format_file in format_files.values()), _CARD]
    card = render(_card(directory, model, files, _test_predictions(directory, model, data, splits)))
    with atomic_directory(out) as unfinished:
        for name, format_file in format_files.items():
            write_bytes(unfinished / format_file.file, _WRITERS[name](model))
        write_text(unfinished / _CARD, card)
    return files


def _refuse_large(model: Trained, chosen: Collection[Format]) -> None:
    """Checks that the weights fit into the chosen formats, before any is written.

    Raises:
      FmnistError: they do not.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(model.weights))
    limited = [name for name in chosen if name in _LIMITED]
    if size > _MAX_BYTES and limited:
        raise FmnistError(
            f"the weights have {size:,} bytes, more than {' and '.join(limited)} can hold ({_MAX_BYTES:,}): "
            "use --formats safetensors"
        )


def to_jaxexport(model: Trained) -> bytes:
    """Serialises `images u8[b, H, W, C] -> probabilities f32[b, C]` with the weights inside, for all `PLATFORMS`.

    The program is that of `Trained.predict` with the run's own averaging of mirror images; on each platform the network
    uses that platform's implementation. Members are mapped as on the exporting platform: on a CPU, one after another.
    """
    predict = make_probabilities(trained.make_trained_predict(model.model, model.tta, model.members))

    def probabilities(images: Array) -> Array:
        return predict(*model.weights, images)

    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *model.image_shape), np.uint8)
    return bytes(export.export(jax.jit(probabilities), platforms=PLATFORMS)(images).serialize())


def to_safetensors(model: Trained) -> bytes:
    """Serialises parameters and running statistics under the names that they have in a checkpoint."""
    from safetensors.numpy import save  # an extra

    layout = "convolutions [height, width, in, out], dense [in, out] of features with channels last"
    return save(snapshot(model.weights).leaves, metadata={**_metadata(model), "layout": layout})


def to_onnx(model: Trained) -> bytes:
    """Serialises the graph of `onnx_model`, with the run's own averaging of mirror images."""
    members = [jax.device_get(model.member(number).weights) for number in range(model.members)]
    mirror = model.tta == "mirror"
    graph = onnx_model(
        model.config.model, members, image_shape=model.image_shape, mirror=mirror, metadata=_metadata(model)
    )
    return bytes(graph.SerializeToString())


_WRITERS: Mapping[Format, Callable[[Trained], bytes]] = {
    "jaxexport": to_jaxexport,
    "safetensors": to_safetensors,
    "onnx": to_onnx,
}


def _metadata(model: Trained) -> dict[str, str]:
    """A file's metadata as strings, without the trainer's local paths, which are nobody's business."""
    return {
        "producer": "fmnist_jax",
        "version": package_versions()["fmnist_jax"] or "unknown",
        "class_names": json.dumps(model.class_names),
        "image_shape": json.dumps(model.image_shape),
        "step": str(model.step),
        "config": json.dumps(to_shareable_dict(model.config)),
    }


class _TestPredictions(NamedTuple):
    """The exported model's predictions for the test images."""

    logits: np.ndarray
    labels: np.ndarray
    origin: str


def _test_predictions(
    directory: Path, model: Trained, data: DataPaths | None, splits: Splits | None
) -> _TestPredictions:
    """The predictions that the run wrote at its last step, which need no data set, or else new ones."""
    saved = read_predictions(directory) if model.step == model.config.total_steps else None
    name = "mirrored_logits" if model.tta == "mirror" else "logits"
    if saved is not None and name in saved:
        return _TestPredictions(saved[name], saved["labels"], "recorded at the end of the run")
    splits = load(with_local_paths(model.config.data, data)) if splits is None else splits
    refuse_other_data(directory / "checkpoints", model.step, model.dataset_digest, digest(splits))
    test = splits.test
    return _TestPredictions(model.predict(test.images, tta=model.tta), test.labels, "evaluated for this export")


def _card(directory: Path, model: Trained, files: Sequence[str], predictions: _TestPredictions) -> Card:
    is_final = model.step == model.config.total_steps
    return Card(
        config=model.config,
        step=model.step,
        parameters=param_count(model.params) // model.members,
        mirrored=model.tta == "mirror",
        custom_recipe=recipe_record.recorded_name(directory),
        image_shape=model.image_shape,
        class_names=model.class_names,
        assessment=assess(predictions.logits, predictions.labels),
        temperature=best_temperature(predictions.logits, predictions.labels),
        origin=predictions.origin,
        summary=(read_json(directory / "summary.json") or {}) if is_final else {},
        trained_with=(read_json(directory / "environment.json") or {}).get("packages", {}),
        exported_with=package_versions(),
        files=files,
    )
