"""The configuration: frozen dataclasses of plain values, each numeric one with the range that it may take.

Nothing here imports JAX, so that a bad configuration is refused before a backend starts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

from fmnist_jax.config.values import Range, Section
from fmnist_jax.errors import ConfigError

# The training images of Fashion-MNIST (arXiv:1708.07747).
FASHION_MNIST_TRAIN_SIZE = 60_000


_Seed = Annotated[int, Range(0, 2**32 - 1)]
_Fraction = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class DataConfig(Section):
    """Which images, from where, and how they are split."""

    name: Literal["fashion_mnist", "synthetic", "idx", "npz", "own"] = "fashion_mnist"
    """fashion_mnist: the 70,000 images, through TFDS. synthetic: garments generated from a seed, no download. idx: four
    IDX files in raw-dir, as for MNIST. npz: arrays in file. own: images passed to `run(config, splits)` in Python."""
    dir: Path | None = None
    """TFDS's data directory. Default: $FMNIST_DATA_DIR, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    raw_dir: Path | None = None
    """Folder with the four original .gz files, used instead of a download. Default: $FMNIST_RAW_DIR.
    For idx: the folder with its files, plain or .gz."""
    file: Path | None = None
    """For npz: a file with train_images, train_labels, test_images, test_labels and, if you like, class_names."""
    validation_size: Annotated[int, Range(0, 10_000_000)] = 5_000
    """Training images held out for validation, class-balanced; 0 holds out none. In [0, 10000000]."""
    seed: _Seed = 0
    """Selects the validation images and generates the synthetic ones. In [0, 4294967295]."""
    synthetic_train_size: Annotated[int, Range(10, 10_000_000)] = 12_000
    """Synthetic images to generate for training and validation. In [10, 10000000]."""
    synthetic_test_size: Annotated[int, Range(10, 10_000_000)] = 2_000
    """Synthetic images to generate for testing. In [10, 10000000]."""
    total: Annotated[int, Range(0, 10_000_000)] = 0
    """For idx, npz and own: images for training and validation together; 0: as many as there are. In [0, 10000000]."""

    @property
    def size(self) -> int:
        """Images for training and validation together; 0 if unknown until they are loaded."""
        return {"fashion_mnist": FASHION_MNIST_TRAIN_SIZE, "synthetic": self.synthetic_train_size}.get(
            self.name, self.total
        )

    @property
    def train_size(self) -> int:
        """Images left for training once the validation images are held out.

        Raises:
          ConfigError: their number is unknown until they are loaded.
        """
        if not self.size:
            raise ConfigError(f"data.total is 0, so the number of {self.name} images is unknown until they are loaded")
        return self.size - self.validation_size


@dataclass(frozen=True)
class ModelConfig(Section):
    """The convolutional network, in stages of decreasing resolution."""

    family: Literal["plain", "resnet"] = "resnet"
    """plain: convolutions in sequence; each stage halves the image. resnet: pre-activation residual blocks."""
    stem: Literal["pooled", "full"] = "pooled"
    """pooled: 2x2 max pooling after the first convolution. full: keep the full resolution (resnet only)."""
    pooling: Literal["max", "mean"] = "max"
    """For plain: how each stage pools 2x2 pixels; mean needs less than half of the multiplications. The first stage
    always uses max, and the stages of resnet always use mean."""
    widths: tuple[Annotated[int, Range(1, 4096)], ...] = (48, 96, 192)
    """Channels of each stage. Every stage halves the image, except the first with a full stem. Each in [1, 4096]."""
    depths: tuple[Annotated[int, Range(1, 100)], ...] = (1, 1, 1)
    """plain: 3x3 convolutions per stage. resnet: blocks per stage, of two convolutions each. Each in [1, 100]."""
    dropout: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    """Fraction of the features dropped before the dense head during training. In [0, 1)."""
    stochastic_depth: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    """For resnet: probability that a training image skips the last block; lower for earlier blocks. In [0, 1)."""
    batch_norm_momentum: Annotated[float, Range(0, 1, open_high=True)] = 0.9
    """Fraction of the running statistics kept at each step. In [0, 1)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of the computation; parameters and running statistics stay float32."""


@dataclass(frozen=True)
class InitConfig(Section):
    """How the weights are initialised, and which of them stay frozen."""

    source: Path | None = None
    """Run directory to take weights and running statistics from, as far as they fit; --init.from is the same."""
    freeze: str | None = None
    """With --init.from: a glob pattern of the paths of parameters to freeze, such as 'Conv_*' or, for all but the dense
    head, '[!D]*'. A batch norm with both parameters frozen also keeps its running statistics."""


@dataclass(frozen=True)
class OptimConfig(Section):
    """The optimiser and its learning-rate schedule, whose times are fractions of the whole run."""

    name: Literal["sgd", "adam", "adamw", "muon"] = "sgd"
    """sgd and muon use Nesterov momentum; muon orthogonalises the updates of convolution kernels and leaves the rest to
    adamw. Weight decay is decoupled in all but adam, which has none."""
    peak_lr: Annotated[float, Range(0, 1e10, open_low=True)] = 0.2
    """Peak learning rate of the schedule. In (0, 10000000000]."""
    rest_lr: Annotated[float, Range(0, 1e10, open_low=True)] = 0.01
    """For muon: peak learning rate of what it leaves to adamw (norms and dense head). In (0, 10000000000]."""
    ortho_steps: Annotated[int, Range(1, 20)] = 3
    """For muon: Newton-Schulz iterations that orthogonalise an update. In [1, 20]."""
    schedule: Literal["one_cycle", "cosine", "constant", "step"] = "one_cycle"
    """one_cycle: linear up, linear down. cosine: linear up, cosine down. step: divided by 10 at 1/2 and at 3/4."""
    warmup: _Fraction = 0.2
    """Fraction of the run over which one_cycle and cosine rise to peak_lr. In [0, 1]."""
    final_lr: _Fraction = 0.0
    """Learning rate at the end of one_cycle and cosine, as a fraction of peak_lr. In [0, 1]."""
    momentum: Annotated[float, Range(0, 1, open_high=True)] = 0.9
    """Momentum of sgd and muon; first-moment decay (beta 1) of adam, adamw and the adamw within muon. In [0, 1)."""
    weight_decay: Annotated[float, Range(0, 10)] = 5e-3
    """Weight decay of convolution and dense kernels, multiplied by their learning rate at each step. In [0, 10]."""
    clip_norm: Annotated[float, Range(0, 1e10)] = 0.0
    """Maximum global norm of the gradient; 0 disables clipping. In [0, 10000000000]."""


@dataclass(frozen=True)
class AugmentConfig(Section):
    """How the training images are augmented."""

    flip: Literal["none", "random", "alternating"] = "alternating"
    """random: mirror each image left to right with probability 1/2. alternating: mirror it in every other epoch."""
    crop_padding: Annotated[int, Range(0, 1024)] = 0
    """Shift images by up to this many pixels each way, at most half their shorter side; 0 disables it. In [0, 1024]."""
    rotation: Annotated[float, Range(0, 180)] = 0.0
    """Rotate each image by up to this many degrees each way; 0 disables it. In [0, 180]."""
    photo_probability: _Fraction = 0.0
    """Fraction of the images varied like photos: pose, lighting, contrast, soft edges, missing parts. In [0, 1]."""
    erase_probability: _Fraction = 0.25
    """Fraction of the images in which a random rectangle is overwritten with noise. In [0, 1]."""
    cutout: Annotated[int, Range(0, 2048)] = 0
    """Side in pixels of a square that is blacked out in each image; 0 disables it. In [0, 2048]."""
    mixup_alpha: Annotated[float, Range(0, 10)] = 0.0
    """Average pairs of images, with weights from Beta(alpha, alpha); 0 disables it. In [0, 10]."""
    cutmix_alpha: Annotated[float, Range(0, 10)] = 0.0
    """Paste boxes of images into one another, with areas from Beta(alpha, alpha); 0 disables it. In [0, 10]."""
    mix_probability: _Fraction = 0.5
    """Fraction of the images to which mixup_alpha or cutmix_alpha applies. In [0, 1]."""


@dataclass(frozen=True)
class TrainConfig(Section):
    """How long to train, in what batches, with what label smoothing, and what to score."""

    epochs: Annotated[int, Range(1, 100_000)] = 30
    """Passes over the training images. In [1, 100000]."""
    batch_size: Annotated[int, Range(1, 65_536)] = 128
    """Images per training step. In [1, 65536]."""
    eval_batch_size: Annotated[int, Range(1, 65_536)] = 250
    """Images per evaluation batch. In [1, 65536]."""
    seed: _Seed = 0
    """Determines the initial weights, the order of the images, augmentation and dropout. In [0, 4294967295]."""
    label_smoothing: Annotated[float, Range(0, 1, open_high=True)] = 0.1
    """Fraction of the label's probability spread evenly over all classes. In [0, 1)."""
    average_decay: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    """Score an exponential moving average of the weights with this decay per step; 0 keeps no average. In [0, 1)."""
    eval_mirror: bool = True
    """At the end, also score with logits averaged over each image and its mirror image."""
    eval_every: Annotated[int, Range(1, 100_000)] = 1
    """Epochs between evaluations on the validation images. In [1, 100000]."""


@dataclass(frozen=True)
class RunConfig(Section):
    """The run directory, checkpoints and logging: nothing here changes what is trained."""

    dir: Path | None = None
    """Run directory, created if missing; an existing run is resumed. Default: runs/<preset>-<time>."""
    log_every: Annotated[int, Range(1, 10_000)] = 25
    """Steps between log lines; also the maximum number of steps in one compiled call. In [1, 10000]."""
    checkpoint_every: Annotated[int, Range(1, 1_000_000_000)] = 200
    """Steps between checkpoints; one is also saved after each evaluation. In [1, 1000000000]."""
    progress: Literal["auto", "bar", "plain"] = "auto"
    """bar: a live progress bar. plain: a line per log interval. auto: a bar on a terminal, else lines."""
    profile: Annotated[int, Range(0, 10_000)] = 0
    """Training steps to trace with JAX's profiler before training, into <run>/profile; 0 disables it. In [0, 10000]."""
    tensorboard: bool = False
    """Also write the logged values, and figures at the end, to <run>/tensorboard; needs tensorboardX."""


@dataclass(frozen=True)
class PopulationConfig(Section):
    """How many models are trained as one run."""

    seeds: Annotated[int, Range(1, 1024)] = 1
    """Members, with seeds train.seed, train.seed + 1, …; scored one by one and as an ensemble. In [1, 1024]."""


@dataclass(frozen=True)
class ParallelConfig(Section):
    """How a run is spread over devices and processes: nothing here changes what is trained, except for rounding."""

    devices: Literal["all"] | Annotated[int, Range(1, 65_536)] = "all"
    """Devices to use across all processes: all, or this many. In [1, 65536]."""
    axis: Literal["data", "member"] = "data"
    """data: divide every batch among the devices. member: divide the members of the population."""
    distributed: bool = False
    """Run as one of several processes that start the same command: on a TPU slice, under SLURM, Open MPI or Kubernetes
    they find one another; elsewhere, set coordinator, processes and process-id."""
    coordinator: str | None = None
    """Address of the first process, host:port."""
    processes: Annotated[int, Range(0, 65_536)] = 0
    """Number of processes; 0: as the cluster says. In [0, 65536]."""
    process_id: Annotated[int, Range(-1, 65_535)] = -1
    """Index of this process, counted from 0; -1: as the cluster says. In [-1, 65535]."""
    heartbeat: Annotated[int, Range(5, 3_600)] = 30
    """Seconds without a sign of life after which a process counts as dead, which ends the others. In [5, 3600]."""


NON_TRAINING_SECTIONS = frozenset({"run", "parallel"})
"""Sections that do not affect what is trained, so that they may change when a run is resumed."""

CUSTOM = "custom"
"""The `preset` of a configuration that did not start from one."""


@dataclass(frozen=True)
class Config:
    """Everything that determines a run: by default a ResNet of three blocks at 14x14 pixels or less, with SGD."""

    preset: str = CUSTOM
    """Name of the preset that the other values started from, or custom."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    population: PopulationConfig = field(default_factory=PopulationConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def steps(self, epochs: int) -> int:
        """Optimiser steps in this many epochs; the last batch may extend into the next epoch."""
        return math.ceil(epochs * self.data.train_size / self.train.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimiser steps in the whole run."""
        return self.steps(self.train.epochs)


SECTIONS: Mapping[str, type] = {name: kind for name, kind in get_type_hints(Config).items() if name != "preset"}
"""The class of each section of a `Config`, by field name."""
