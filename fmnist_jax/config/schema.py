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
    """fashion_mnist: the 70,000 images, through TFDS. synthetic: garments drawn from a seed, no download. idx: four IDX
    files in raw-dir, as of MNIST. npz: arrays in file. own: what `run(config, splits)` is given in Python."""
    dir: Path | None = None
    """TFDS's data directory. Default: $FMNIST_DATA_DIR, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    raw_dir: Path | None = None
    """Folder with the four original .gz files, used instead of a download. Default: $FMNIST_RAW_DIR.
    Of idx: the folder of its files, plain or .gz."""
    file: Path | None = None
    """Of npz: a file with train_images, train_labels, test_images, test_labels and, if you like, class_names."""
    validation_size: Annotated[int, Range(0, 10_000_000)] = 5_000
    """Images held out of the training images, class-balanced; 0 holds out none. In [0, 10000000]."""
    seed: _Seed = 0
    """Chooses the validation images and draws the synthetic ones. In [0, 4294967295]."""
    synthetic_train_size: Annotated[int, Range(10, 10_000_000)] = 12_000
    """Synthetic images to draw for training and validation. In [10, 10000000]."""
    synthetic_test_size: Annotated[int, Range(10, 10_000_000)] = 2_000
    """Synthetic images to draw for the test. In [10, 10000000]."""
    total: Annotated[int, Range(0, 10_000_000)] = 0
    """Of idx, npz and own: images for training and validation; 0: as many as there are. In [0, 10000000]."""

    @property
    def size(self) -> int:
        """Images for training and validation together; 0 where only loading them can tell."""
        return {"fashion_mnist": FASHION_MNIST_TRAIN_SIZE, "synthetic": self.synthetic_train_size}.get(
            self.name, self.total
        )

    @property
    def train_size(self) -> int:
        """Images left for training once the validation images are held out.

        Raises:
          ConfigError: only loading them can tell.
        """
        if not self.size:
            raise ConfigError(
                f"data.total is 0, and how many images {self.name} has is not known until they are loaded"
            )
        return self.size - self.validation_size


@dataclass(frozen=True)
class ModelConfig(Section):
    """The convolutional network, in stages of falling resolution."""

    family: Literal["plain", "resnet"] = "resnet"
    """plain: convolutions one after another, each stage halves the image. resnet: pre-activation residual blocks."""
    stem: Literal["pooled", "full"] = "pooled"
    """pooled: take maxima of 2x2 pixels after the first convolution. full: keep all of them, which resnet alone can."""
    pooling: Literal["max", "mean"] = "max"
    """For plain: how each stage pools 2x2 pixels; mean needs less than half of the multiplications. The first stage
    pools by max all the same, and resnet's stages by mean."""
    widths: tuple[Annotated[int, Range(1, 4096)], ...] = (48, 96, 192)
    """Channels of each stage. Every stage halves the image, except the first with a full stem. Each in [1, 4096]."""
    depths: tuple[Annotated[int, Range(1, 100)], ...] = (1, 1, 1)
    """plain: 3x3 convolutions per stage. resnet: blocks per stage, of two convolutions each. Each in [1, 100]."""
    dropout: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    """Share of the features dropped before the dense head while training. In [0, 1)."""
    stochastic_depth: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    """Share of the training images that skip the last block of resnet; fewer skip earlier ones. In [0, 1)."""
    batch_norm_momentum: Annotated[float, Range(0, 1, open_high=True)] = 0.9
    """Share of the running statistics kept at each step. In [0, 1)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters and statistics stay float32."""


@dataclass(frozen=True)
class InitConfig(Section):
    """What the weights start from."""

    source: Path | None = None
    """Run directory to take weights and statistics from, as far as they fit; --init.from is the same."""
    freeze: str | None = None
    """Parameters that stay as they are, and statistics of norms among them: a pattern of their paths, such as 'Conv_*'
    or, for all but the dense head, '[!D]*'."""


@dataclass(frozen=True)
class OptimConfig(Section):
    """The optimiser and its learning-rate schedule, in shares of the whole run."""

    name: Literal["sgd", "adam", "adamw", "muon"] = "sgd"
    """sgd and muon have Nesterov momentum; muon makes the updates of convolution kernels orthogonal and leaves the rest
    to adam. Weight decay is decoupled in all but adam, which has none."""
    peak_lr: Annotated[float, Range(0, 1e10, open_low=True)] = 0.2
    """Highest learning rate of the schedule. In (0, 10000000000]."""
    rest_lr: Annotated[float, Range(0, 1e10, open_low=True)] = 0.01
    """Of muon: highest learning rate of what it leaves to adam: norms and the dense head. In (0, 10000000000]."""
    ortho_steps: Annotated[int, Range(1, 20)] = 3
    """Of muon: Newton-Schulz steps that make an update orthogonal. In [1, 20]."""
    schedule: Literal["one_cycle", "cosine", "constant", "step"] = "one_cycle"
    """one_cycle: linear up, linear down. cosine: linear up, cosine down. step: tenfold drops at 1/2 and 3/4."""
    warmup: _Fraction = 0.2
    """Share of the run over which one_cycle and cosine rise to peak_lr. In [0, 1]."""
    final_lr: _Fraction = 0.0
    """Learning rate at the end of one_cycle and cosine, as a share of peak_lr. In [0, 1]."""
    momentum: Annotated[float, Range(0, 1, open_high=True)] = 0.9
    """Momentum of sgd and muon; the first-moment decay of adam, adamw and what muon leaves to adam. In [0, 1)."""
    weight_decay: Annotated[float, Range(0, 10)] = 5e-3
    """Decay of convolution and dense kernels a step, in units of their learning rate. In [0, 10]."""
    clip_norm: Annotated[float, Range(0, 1e10)] = 0.0
    """Largest global norm of the gradient; 0 clips nothing. In [0, 10000000000]."""


@dataclass(frozen=True)
class AugmentConfig(Section):
    """How the training images are varied."""

    flip: Literal["none", "random", "alternating"] = "alternating"
    """random: mirror each image left to right half of the time. alternating: in every other epoch."""
    crop_padding: Annotated[int, Range(0, 1024)] = 0
    """Shift each image by up to so many pixels each way, half of it at most; 0 shifts none. In [0, 1024]."""
    rotation: Annotated[float, Range(0, 180)] = 0.0
    """Turn each image by up to so many degrees each way; 0 turns none. In [0, 180]."""
    photo_probability: _Fraction = 0.0
    """Share of the images that are varied as photos differ: light, contrast, soft edges, lost parts. In [0, 1]."""
    erase_probability: _Fraction = 0.25
    """Share of the images of which a random rectangle is overwritten with noise. In [0, 1]."""
    cutout: Annotated[int, Range(0, 2048)] = 0
    """Side in pixels of a square that is blackened in each image; 0 blackens none. In [0, 2048]."""
    mixup_alpha: Annotated[float, Range(0, 10)] = 0.0
    """Average images with one another, in shares drawn from Beta(alpha, alpha); 0 averages none. In [0, 10]."""
    cutmix_alpha: Annotated[float, Range(0, 10)] = 0.0
    """Paste boxes of images into one another, as large as Beta(alpha, alpha) says; 0 pastes none. In [0, 10]."""
    mix_probability: _Fraction = 0.5
    """Share of the images to which mixup_alpha or cutmix_alpha applies. In [0, 1]."""


@dataclass(frozen=True)
class TrainConfig(Section):
    """How long to train, on what batches, towards which labels, and what to score."""

    epochs: Annotated[int, Range(1, 100_000)] = 30
    """Passes over the training images. In [1, 100000]."""
    batch_size: Annotated[int, Range(1, 65_536)] = 128
    """Images a step. In [1, 65536]."""
    eval_batch_size: Annotated[int, Range(1, 65_536)] = 250
    """Images a batch of evaluation. In [1, 65536]."""
    seed: _Seed = 0
    """Determines initial weights, order of the images, augmentation and dropout. In [0, 4294967295]."""
    label_smoothing: Annotated[float, Range(0, 1, open_high=True)] = 0.1
    """Share of the label's weight spread evenly over the classes. In [0, 1)."""
    average_decay: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    """Score an average of the weights that keeps this share of itself at each step; 0 keeps no average. In [0, 1)."""
    eval_mirror: bool = True
    """At the end, also score with the logits of each image and its mirror image averaged."""
    eval_every: Annotated[int, Range(1, 100_000)] = 1
    """Epochs between evaluations on the validation images. In [1, 100000]."""


@dataclass(frozen=True)
class RunConfig(Section):
    """The run directory and what is told of the run: nothing here changes what is trained."""

    dir: Path | None = None
    """Run directory, made if missing; an existing run goes on. Default: runs/<preset>-<time>."""
    log_every: Annotated[int, Range(1, 10_000)] = 25
    """Steps between log lines; also the most steps compiled into one dispatch. In [1, 10000]."""
    checkpoint_every: Annotated[int, Range(1, 1_000_000_000)] = 200
    """Steps between checkpoints; one is also saved after each evaluation. In [1, 1000000000]."""
    progress: Literal["auto", "bar", "plain"] = "auto"
    """bar: a live progress bar. plain: a line per log interval. auto: a bar on a terminal."""
    profile: Annotated[int, Range(0, 10_000)] = 0
    """Training steps to trace with JAX's profiler, into <run>/profile, before training; 0 for none. In [0, 10000]."""
    tensorboard: bool = False
    """Also write what is logged, and figures at the end, into <run>/tensorboard; needs tensorboardX."""


@dataclass(frozen=True)
class PopulationConfig(Section):
    """How many models are trained as one run."""

    seeds: Annotated[int, Range(1, 1024)] = 1
    """Members, of the seeds train.seed, train.seed + 1, …; scored one by one and as an ensemble. In [1, 1024]."""


@dataclass(frozen=True)
class ParallelConfig(Section):
    """Over which devices and processes a run is spread: nothing here changes what is trained, but for rounding."""

    devices: Literal["all"] | Annotated[int, Range(1, 65_536)] = "all"
    """Devices to use, of all processes together: all, or so many. In [1, 65536]."""
    axis: Literal["data", "member"] = "data"
    """data: each device takes its rows of every batch. member: each takes its members of the population."""
    distributed: bool = False
    """Be one of several processes that start the same command: on a TPU slice, under SLURM, Open MPI or Kubernetes they
    find one another; elsewhere coordinator, processes and process-id say who they are."""
    coordinator: str | None = None
    """Address of the first process, host:port."""
    processes: Annotated[int, Range(0, 65_536)] = 0
    """How many processes there are; 0: as the cluster says. In [0, 65536]."""
    process_id: Annotated[int, Range(-1, 65_535)] = -1
    """Which of them this one is, counted from 0; -1: as the cluster says. In [-1, 65535]."""
    heartbeat: Annotated[int, Range(5, 3_600)] = 30
    """Seconds without a sign of life after which a process counts as dead, and ends the others. In [5, 3600]."""


UNTRAINED = frozenset({"run", "parallel"})
"""Sections that change nothing in what is trained, so that they may change when a run goes on."""

CUSTOM = "custom"
"""Stands for the name of a preset in a configuration that started from none."""


@dataclass(frozen=True)
class Config:
    """Everything that determines a run: by default a ResNet of three blocks on 14 pixels and less, trained by SGD."""

    preset: str = CUSTOM
    """Name of the preset that the other values started from, if it was one."""
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
        """Optimiser steps of so many epochs; the last batch may reach into one epoch more."""
        return math.ceil(epochs * self.data.train_size / self.train.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps(self.train.epochs)


SECTIONS: Mapping[str, type] = {name: kind for name, kind in get_type_hints(Config).items() if name != "preset"}
"""The parts of a `Config`, by the name of its field."""
