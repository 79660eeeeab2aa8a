from .analysis.assessment import Assessment as Assessment, assess as assess
from .analysis.calibration import (
    Reliability as Reliability,
    best_temperature as best_temperature,
    expected_calibration_error as expected_calibration_error,
    reliability as reliability,
)
from .analysis.certainty import given_a_pair as given_a_pair, reasons_for_doubt as reasons_for_doubt
from .analysis.classification import (
    class_scores as class_scores,
    most_confused as most_confused,
    top_k_accuracy as top_k_accuracy,
    wilson_interval as wilson_interval,
)
from .analysis.inspection import (
    first_filters as first_filters,
    make_saliency as make_saliency,
    principal_plane as principal_plane,
)
from .analysis.onnx_graph import onnx_model as onnx_model
from .commands.arguments import parse_arguments as parse_arguments
from .commands.cli import run_command as run_command
from .config.presets import PRESETS as PRESETS
from .config.record import from_dict as from_dict, to_dict as to_dict
from .config.schema import (
    AugmentConfig as AugmentConfig,
    Config as Config,
    DataConfig as DataConfig,
    InitConfig as InitConfig,
    ModelConfig as ModelConfig,
    OptimConfig as OptimConfig,
    ParallelConfig as ParallelConfig,
    PopulationConfig as PopulationConfig,
    RunConfig as RunConfig,
    TrainConfig as TrainConfig,
)
from .config.validation import validate as validate
from .data.batching import (
    batches as batches,
    padded_batches as padded_batches,
    stacked_batches as stacked_batches,
)
from .data.dataset import (
    Dataset as Dataset,
    Splits as Splits,
    load as load,
    split as split,
    statistics as statistics,
)
from .data.photos import FRAMES as FRAMES, Frame as Frame, Prepared as Prepared, to_dataset_image as to_dataset_image
from .data.resolution import with_splits as with_splits
from .errors import (
    CheckpointError as CheckpointError,
    ConfigError as ConfigError,
    DataError as DataError,
    DeviceMemoryError as DeviceMemoryError,
    DivergenceError as DivergenceError,
    FmnistError as FmnistError,
    RunInUseError as RunInUseError,
)
from .functional.activations import Activations as Activations, make_activations as make_activations
from .functional.augment import (
    Augment as Augment,
    chain as chain,
    identity as identity,
    make_augment as make_augment,
    make_cutout as make_cutout,
    make_random_crop as make_random_crop,
    make_random_erasing as make_random_erasing,
    make_random_rotation as make_random_rotation,
    mirror_alternately as mirror_alternately,
    random_flip as random_flip,
    rotate as rotate,
)
from .functional.averaging import (
    make_averaging_step as make_averaging_step,
    start_average as start_average,
    weights_to_score as weights_to_score,
)
from .functional.descent import (
    ExtraArgs as ExtraArgs,
    Slope as Slope,
    TrainStep as TrainStep,
    make_descent as make_descent,
)
from .functional.eval_step import (
    EvalStep as EvalStep,
    Evaluate as Evaluate,
    Predict as Predict,
    evaluate_batches as evaluate_batches,
    make_eval_step as make_eval_step,
    make_evaluate as make_evaluate,
    make_mirrored_predict as make_mirrored_predict,
    make_predict as make_predict,
    make_probabilities as make_probabilities,
)
from .functional.head import replace_head as replace_head
from .functional.interface import (
    Apply as Apply,
    BatchStats as BatchStats,
    Init as Init,
    Model as Model,
    Params as Params,
)
from .functional.labels import (
    CLASS_NAMES as CLASS_NAMES,
    PADDING_LABEL as PADDING_LABEL,
    class_names as class_names,
    one_hot as one_hot,
    smoothed as smoothed,
    soft_labels as soft_labels,
)
from .functional.layers import (
    avg_pool as avg_pool,
    conv as conv,
    conv_avg_pool as conv_avg_pool,
    conv_max_pool as conv_max_pool,
    max_pool as max_pool,
)
from .functional.metrics import (
    LossFn as LossFn,
    Metrics as Metrics,
    MetricsFn as MetricsFn,
    Summary as Summary,
    batch_metrics as batch_metrics,
    cross_entropy as cross_entropy,
    make_cross_entropy as make_cross_entropy,
    summarize as summarize,
    summarize_members as summarize_members,
    total as total,
)
from .functional.mixing import (
    Mix as Mix,
    make_cutmix as make_cutmix,
    make_mix as make_mix,
    make_mixup as make_mixup,
    unmixed as unmixed,
)
from .functional.model import make_model as make_model
from .functional.muon import orthogonalize as orthogonalize, orthogonalize_kernels as orthogonalize_kernels
from .functional.normalization import batch_norm as batch_norm
from .functional.objective import Aux as Aux, Batch as Batch, Objective as Objective, make_objective as make_objective
from .functional.optim import (
    Mask as Mask,
    has_axes as has_axes,
    make_optimizer as make_optimizer,
    make_schedule as make_schedule,
)
from .functional.parallel import (
    make_parallel_chunk as make_parallel_chunk,
    make_parallel_eval_step as make_parallel_eval_step,
    make_parallel_predict as make_parallel_predict,
    over_mesh as over_mesh,
    sample_own_rows as sample_own_rows,
)
from .functional.photo_like import (
    Variation as Variation,
    draw_variation as draw_variation,
    make_photo_like as make_photo_like,
    vary as vary,
)
from .functional.pixels import normalize as normalize, on_floats as on_floats
from .functional.population import (
    Population as Population,
    in_turn as in_turn,
    make_ensemble_predict as make_ensemble_predict,
    make_population as make_population,
    mean_log_probabilities as mean_log_probabilities,
    members_map as members_map,
)
from .functional.recipe import MakeRecipe as MakeRecipe, Recipe as Recipe, make_recipe as make_recipe
from .functional.sampling import batch_epochs as batch_epochs, batch_indices as batch_indices
from .functional.sharding import for_each_image as for_each_image, for_rows as for_rows, gathered as gathered
from .functional.state import (
    TrainState as TrainState,
    Weights as Weights,
    abstract_state as abstract_state,
    init_state as init_state,
    param_count as param_count,
)
from .functional.train_step import (
    Sample as Sample,
    TrainChunk as TrainChunk,
    make_sample as make_sample,
    make_train_chunk as make_train_chunk,
    make_train_step as make_train_step,
    sample_batch as sample_batch,
    sample_mirrored_batch as sample_mirrored_batch,
)
from .functional.transfer import (
    Transferred as Transferred,
    freeze as freeze,
    frozen_norms as frozen_norms,
    start_from as start_from,
    transfer as transfer,
)
from .functional.winograd import winograd_conv as winograd_conv
from .runs.checkpoint import Writer as Writer, restore as restore, save as save, writing as writing
from .runs.damage import restore_latest as restore_latest
from .runs.interruption import InterruptionError as InterruptionError
from .runs.leaves import state_digest as state_digest
from .runs.trained import Trained as Trained, load_trained as load_trained
from .system.allocator import keep_freed_memory as keep_freed_memory
from .system.compilation import FOR_ONE_CALL as FOR_ONE_CALL, compiler_options as compiler_options
from .system.environment import describe_environment as describe_environment
from .train import parse_config as parse_config, run as run
from .views.augmentations import augmentation_rows as augmentation_rows
from .views.features import (
    activation_maps as activation_maps,
    embedding_map as embedding_map,
    filters as filters,
    saliency_maps as saliency_maps,
)
from .views.images import (
    labelled_rows as labelled_rows,
    misclassified_grid as misclassified_grid,
    prediction_grid as prediction_grid,
    sample_grid as sample_grid,
)
from .views.scores import (
    confusion_matrix as confusion_matrix,
    curves as curves,
    reliability_diagram as reliability_diagram,
)
from .views.style import describe_axes as describe_axes
