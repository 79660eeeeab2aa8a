"""The networks as ONNX graphs, built node by node.

No converter knows the primitives of `functional.convolution`, and writing out a network of convolutions, norms and
pools takes fewer lines than teaching them to a converter would. The package `onnx`, an extra, is imported late.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fmnist_jax.config.schema import ModelConfig
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.model import Shape
from fmnist_jax.functional.normalization import EPSILON
from fmnist_jax.functional.state import Weights

# From 2021: every runtime that is still maintained reads it, and it has every operation needed here.
_OPSET, _IR_VERSION = 15, 8
_POOL_2X2: Mapping[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
_CHANNELS_FIRST, _CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)

IMAGES, PROBABILITIES = "images", "probabilities"
"""The names of the input and the output."""


def onnx_model(
    config: ModelConfig,
    members: Sequence[Weights],
    *,
    image_shape: Shape,
    mirror: bool,
    metadata: Mapping[str, str],
) -> Any:
    """Builds an ONNX model that takes bytes and returns probabilities, in float32 whatever the network computes in.

    Its input `images` is u8[batch, H, W, C], its output `probabilities` f32[batch, classes], for batches of any size.

    Args:
      config: the configuration of the network.
      members: the weights of each member of an ensemble, whose probabilities are averaged; or of a single network.
      image_shape: H, W and channels.
      mirror: average the logits of each image and its mirror image, as `make_mirrored_predict` does.
      metadata: properties to keep in the file.

    Returns:
      An `onnx.ModelProto`, checked.
    """
    import onnx  # an extra, needed for exporting alone
    from onnx import TensorProto, helper

    graph = _Graph()
    scaled = graph("Div", graph("Cast", IMAGES, to=TensorProto.FLOAT), graph.constant("white", np.float32(255)))
    pixels = graph("Transpose", scaled, perm=_CHANNELS_FIRST)
    orientations = [pixels, _mirror(graph, pixels)] if mirror else [pixels]
    probabilities = []
    for number, (params, batch_stats) in enumerate(members):
        layers = _Layers(graph, params, batch_stats, f"member_{number}." if len(members) > 1 else "")
        logits = graph("Mean", *(_FAMILIES[config.family](layers, config, way) for way in orientations))
        probabilities.append(graph("Softmax", logits, axis=1))
    graph("Mean", *probabilities, result=PROBABILITIES)

    classes = len(members[0].params["Dense_0"]["bias"])
    shapes = {IMAGES: ("batch", *image_shape), PROBABILITIES: ("batch", classes)}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "fmnist_jax",
            [helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, shapes[IMAGES])],
            [helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, shapes[PROBABILITIES])],
            list(graph.constants.values()),
        ),
        producer_name="fmnist_jax",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Collects nodes and constants; a call adds an operation on the named inputs and returns its result's name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, values: Any) -> str:
        """Adds an array, unless one of that name is there already, and returns the name."""
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def __call__(self, operation: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        from onnx import helper

        result = result or f"{operation}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [result], name=result, **attributes))
        return result


class _Layers(NamedTuple):
    """The layers of one member, numbered as by Flax."""

    graph: _Graph
    params: Params
    batch_stats: BatchStats
    prefix: str
    """Prefix of the names of its constants."""

    def submodule(self, module: str) -> "_Layers":
        """The layers of a module."""
        return self._replace(
            params=self.params[module], batch_stats=self.batch_stats[module], prefix=f"{self.prefix}{module}."
        )

    def conv(self, x: str, number: int) -> str:
        """Convolves with stride 1 and zero padding that keeps the spatial size."""
        kernel = np.asarray(self.params[f"Conv_{number}"]["kernel"]).transpose(3, 2, 0, 1)
        size = kernel.shape[2]
        name = self.graph.constant(f"{self.prefix}Conv_{number}.kernel", kernel)
        return self.graph("Conv", x, name, kernel_shape=[size, size], pads=[size // 2] * 4)

    def norm_relu(self, x: str, number: int) -> str:
        """Normalises by the running statistics, then applies ReLU."""
        name = f"BatchNorm_{number}"
        values = {**self.params[name], **self.batch_stats[name]}
        order = ("scale", "bias", "mean", "var")
        constants = [self.graph.constant(f"{self.prefix}{name}.{each}", values[each]) for each in order]
        return self.graph("Relu", self.graph("BatchNormalization", x, *constants, epsilon=EPSILON))

    def dense(self, x: str) -> str:
        """The dense head, on [batch, features]."""
        own = self.params["Dense_0"]
        constants = [self.graph.constant(f"{self.prefix}Dense_0.{each}", own[each]) for each in ("kernel", "bias")]
        return self.graph("Gemm", x, *constants)


def _mirror(graph: _Graph, x: str) -> str:
    """Images [batch, C, H, W], mirrored left to right."""
    last, before_start = np.array([-1]), np.array([np.iinfo(np.int64).min])
    ends = [graph.constant("last", last), graph.constant("beyond_the_first", before_start)]
    return graph("Slice", x, *ends, graph.constant("width", np.array([3])), graph.constant("backwards", last))


def _plain_logits(layers: _Layers, config: ModelConfig, x: str) -> str:
    """The logits of `model.ConvNet`."""
    number = 0
    for stage, depth in enumerate(config.depths):
        for layer in range(depth):
            x = layers.conv(x, number)
            if layer == 0:
                pooling = "AveragePool" if stage > 0 and config.pooling == "mean" else "MaxPool"
                x = layers.graph(pooling, x, **_POOL_2X2)
            x = layers.norm_relu(x, number)
            number += 1
    # The head was trained on features that were flattened with channels last.
    return layers.dense(layers.graph("Flatten", layers.graph("Transpose", x, perm=_CHANNELS_LAST)))


def _resnet_logits(layers: _Layers, config: ModelConfig, x: str) -> str:
    """The logits of `model.ResNet`."""
    x = layers.conv(x, 0)
    if config.stem == "pooled":
        x = layers.graph("MaxPool", x, **_POOL_2X2)
    number = 0
    for stage, depth in enumerate(config.depths):
        for layer in range(depth):
            x = _residual_block(layers.submodule(f"ResidualBlock_{number}"), x, halve=stage > 0 and layer == 0)
            number += 1
    return layers.dense(layers.graph("Flatten", layers.graph("GlobalAveragePool", layers.norm_relu(x, 0))))


def _residual_block(layers: _Layers, x: str, *, halve: bool) -> str:
    """What `model.ResidualBlock` computes; if it has three convolutions, the first is that of the shortcut."""

    def pool(x: str) -> str:
        return layers.graph("AveragePool", x, **_POOL_2X2) if halve else x

    projected = "Conv_2" in layers.params
    normal = layers.norm_relu(x, 0)
    shortcut = layers.conv(pool(normal), 0) if projected else pool(x)
    y = pool(layers.conv(normal, int(projected)))
    y = layers.conv(layers.norm_relu(y, 1), 1 + projected)
    return layers.graph("Add", shortcut, y)


_FAMILIES: Mapping[str, Callable[[_Layers, ModelConfig, str], str]] = {"plain": _plain_logits, "resnet": _resnet_logits}
