from .allocator import (
    keep_freed_memory as keep_freed_memory,
)
from .assessment import (
    Assessment as Assessment,
)
from .assessment import (
    assess as assess,
)
from .augment import (
    Augment as Augment,
)
from .augment import (
    chain as chain,
)
from .augment import (
    identity as identity,
)
from .augment import (
    make_augment as make_augment,
)
from .augment import (
    make_cutout as make_cutout,
)
from .augment import (
    make_random_crop as make_random_crop,
)
from .augment import (
    make_random_erasing as make_random_erasing,
)
from .augment import (
    make_random_rotation as make_random_rotation,
)
from .augment import (
    mirror_alternately as mirror_alternately,
)
from .augment import (
    normalize as normalize,
)
from .augment import (
    random_flip as random_flip,
)
from .augment import (
    rotate as rotate,
)
from .augmentation_examples import (
    augmentation_rows as augmentation_rows,
)
from .averaging import (
    make_averaging_step as make_averaging_step,
)
from .averaging import (
    start_average as start_average,
)
from .averaging import (
    weights_to_score as weights_to_score,
)
from .calibration import (
    Reliability as Reliability,
)
from .calibration import (
    expected_calibration_error as expected_calibration_error,
)
from .calibration import (
    reliability as reliability,
)
from .checkpoint import (
    open_manager as open_manager,
)
from .checkpoint import (
    restore as restore,
)
from .checkpoint import (
    save as save,
)
from .checkpoint import (
    state_digest as state_digest,
)
from .classification import (
    class_scores as class_scores,
)
from .classification import (
    most_confused as most_confused,
)
from .classification import (
    top_k_accuracy as top_k_accuracy,
)
from .classification import (
    wilson_interval as wilson_interval,
)
from .compilation import (
    compiler_options as compiler_options,
)
from .config import (
    AugmentConfig as AugmentConfig,
)
from .config import (
    Config as Config,
)
from .config import (
    DataConfig as DataConfig,
)
from .config import (
    ModelConfig as ModelConfig,
)
from .config import (
    OptimConfig as OptimConfig,
)
from .config import (
    RunConfig as RunConfig,
)
from .config import (
    TrainConfig as TrainConfig,
)
from .config import (
    from_dict as from_dict,
)
from .config import (
    to_dict as to_dict,
)
from .data import (
    Dataset as Dataset,
)
from .data import (
    Splits as Splits,
)
from .data import (
    batches as batches,
)
from .data import (
    load as load,
)
from .data import (
    padded_batches as padded_batches,
)
from .data import (
    statistics as statistics,
)
from .errors import (
    CheckpointError as CheckpointError,
)
from .errors import (
    ConfigError as ConfigError,
)
from .errors import (
    DataError as DataError,
)
from .errors import (
    DivergenceError as DivergenceError,
)
from .errors import (
    FmnistError as FmnistError,
)
from .errors import (
    RunInUseError as RunInUseError,
)
from .eval_step import (
    evaluate_batches as evaluate_batches,
)
from .eval_step import (
    make_eval_step as make_eval_step,
)
from .eval_step import (
    make_mirrored_predict as make_mirrored_predict,
)
from .eval_step import (
    make_predict as make_predict,
)
from .feature_figures import (
    activation_maps as activation_maps,
)
from .feature_figures import (
    embedding_map as embedding_map,
)
from .feature_figures import (
    saliency_maps as saliency_maps,
)
from .figures import (
    curves as curves,
)
from .figures import (
    labelled_rows as labelled_rows,
)
from .figures import (
    reliability_diagram as reliability_diagram,
)
from .image_figures import (
    misclassified_grid as misclassified_grid,
)
from .image_figures import (
    prediction_grid as prediction_grid,
)
from .image_figures import (
    sample_grid as sample_grid,
)
from .inspection import (
    first_filters as first_filters,
)
from .inspection import (
    make_saliency as make_saliency,
)
from .inspection import (
    principal_plane as principal_plane,
)
from .labels import (
    CLASS_NAMES as CLASS_NAMES,
)
from .labels import (
    class_names as class_names,
)
from .labels import (
    class_weights as class_weights,
)
from .labels import (
    one_hot as one_hot,
)
from .labels import (
    smoothed as smoothed,
)
from .layers import (
    batch_norm as batch_norm,
)
from .layers import (
    conv as conv,
)
from .layers import (
    conv_avg_pool as conv_avg_pool,
)
from .layers import (
    conv_max_pool as conv_max_pool,
)
from .layers import (
    max_pool as max_pool,
)
from .metrics import (
    Metrics as Metrics,
)
from .metrics import (
    batch_metrics as batch_metrics,
)
from .metrics import (
    cross_entropy as cross_entropy,
)
from .metrics import (
    make_cross_entropy as make_cross_entropy,
)
from .metrics import (
    summarize as summarize,
)
from .mixing import (
    Mix as Mix,
)
from .mixing import (
    make_cutmix as make_cutmix,
)
from .mixing import (
    make_mix as make_mix,
)
from .mixing import (
    make_mixup as make_mixup,
)
from .mixing import (
    unmixed as unmixed,
)
from .model import (
    Model as Model,
)
from .model import (
    make_activations as make_activations,
)
from .model import (
    make_model as make_model,
)
from .optim import (
    make_optimizer as make_optimizer,
)
from .optim import (
    make_schedule as make_schedule,
)
from .presets import (
    PRESETS as PRESETS,
)
from .recipe import (
    Recipe as Recipe,
)
from .recipe import (
    make_recipe as make_recipe,
)
from .sampling import (
    batch_epochs as batch_epochs,
)
from .sampling import (
    batch_indices as batch_indices,
)
from .state import (
    TrainState as TrainState,
)
from .state import (
    Weights as Weights,
)
from .state import (
    abstract_state as abstract_state,
)
from .state import (
    init_state as init_state,
)
from .state import (
    param_count as param_count,
)
from .train import (
    run as run,
)
from .train_step import (
    Batch as Batch,
)
from .train_step import (
    Sample as Sample,
)
from .train_step import (
    make_train_chunk as make_train_chunk,
)
from .train_step import (
    make_train_step as make_train_step,
)
from .train_step import (
    sample_batch as sample_batch,
)
from .train_step import (
    sample_mirrored_batch as sample_mirrored_batch,
)
from .trained import (
    Trained as Trained,
)
from .validation import (
    validate as validate,
)
from .winograd import (
    winograd_conv as winograd_conv,
)
