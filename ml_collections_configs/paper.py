"""The paper's network, loss and augmentation, every option spelled out.

The base of a new experiment: copy it, name the data, and delete what stays as it is.
Values are the paper's unless marked "ours"; a test compares them with the defaults.

Run:  python -m experiments.train --config=ml_collections_configs/paper.py
          --config.data.images=IMAGES --config.data.masks=MASKS --workdir=runs/paper
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_steps = 10_000  # ours
    config.batch_size = 1  # tiles of an update, over all devices; Sec. 3
    config.tile_size = 572  # pixels; 388 after the valid convolutions; Fig. 1
    config.log_every = 50  # steps; ours
    config.log_grad_norms = False  # of every array
    config.evaluate_every = 500  # steps; ours
    config.patience = 0  # evaluations without progress; no early stopping
    config.best_metric = "mean_iou"  # ours
    config.tune_instances = False  # ours
    config.deterministic = False  # True repeats bit for bit on a GPU, but slower
    config.writers = ()  # of tensorboard, wandb, mlflow
    config.num_pictures = 3  # validation images drawn at every evaluation
    config.histograms = False  # of activations, for metric writers
    config.pretrained = ""  # folder of a model whose parameters are the initial ones

    config.input_scaling = ml_collections.ConfigDict()
    config.input_scaling.method = "unit"  # ours: divided by the largest of the type
    config.input_scaling.clip = (None, None)  # stored grey values; no bound

    config.model = ml_collections.ConfigDict()
    config.model.num_classes = 2
    config.model.target = "classes"  # of distances, neighbours, border; Eq. (1)
    config.model.features = 64  # channels at full resolution; Fig. 1
    config.model.depth = 4  # poolings; Fig. 1
    config.model.kernel_size = 3
    config.model.padding = "VALID"  # Sec. 2
    config.model.dropout_rate = 0.5  # of the authors' release; the paper names none
    config.model.dropout_sites = "bottom"  # Sec. 3.1: end of the contracting path
    config.model.negative_slope = 0.0  # ReLU
    config.model.up_activation = False  # Fig. 1
    config.model.wide_last_up = False
    config.model.concat_order = "skip_first"  # ours: the paper names none
    config.model.input_shift = 0.0
    config.model.kernel_init = "he"  # Sec. 3: Gaussian, sqrt(2 / N)
    config.model.bias_init = 0.0  # ours
    config.model.norm = "none"
    config.model.remat = False
    config.model.dtype = "float32"

    config.loss = ml_collections.ConfigDict()
    config.loss.name = "cross_entropy"  # Eq. (1)
    config.loss.reduction = "weighted_mean"  # ours

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3  # ours: the paper names none
    config.optimizer.momentum = 0.99  # Sec. 3
    config.optimizer.nesterov = False
    config.optimizer.beta1 = 0.9  # of name "adam"
    config.optimizer.beta2 = 0.999  # of name "adam"
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 0
    config.optimizer.decay_rate = 0.95  # of schedule "staircase"
    config.optimizer.decay_steps = 1000  # of schedule "staircase"
    config.optimizer.weight_decay = 0.0
    config.optimizer.l2_scope = "kernels"  # of weight_decay
    config.optimizer.clip_norm = 0.0  # no limit
    config.optimizer.bias_rate = 1.0  # of the learning rate
    config.optimizer.average = 0.0  # decay rate of a running mean of the parameters

    config.weight_map = ml_collections.ConfigDict()
    config.weight_map.w0 = 10.0  # Sec. 3
    config.weight_map.sigma = 5.0  # pixels; Sec. 3
    config.weight_map.near = 0.0  # no such term
    config.weight_map.near_sigma = 10.0  # pixels
    config.weight_map.separation_border = "one_sided"  # ours
    config.weight_map.class_balance = "inverse"  # ours

    config.augmentation = ml_collections.ConfigDict()
    config.augmentation.rotation = 360.0  # degrees; Falk et al. 2019
    config.augmentation.flip = True  # ours
    config.augmentation.scale = 1.0  # no scaling
    config.augmentation.elastic = "bicubic"  # Sec. 3.1
    config.augmentation.elastic_sigma = 10.0  # pixels; Sec. 3.1
    config.augmentation.elastic_grid = 3  # points a side; Sec. 3.1
    config.augmentation.elastic_spacing = 150.0  # pixels; of elastic "bspline"
    config.augmentation.interpolation = "linear"  # ours: the paper names none
    config.augmentation.contrast = 0.05  # Falk et al. 2019
    config.augmentation.curve_points = 2  # ours; Falk et al. 2019 have 5
    config.augmentation.gamma = 0.0
    config.augmentation.blur = 0.0  # pixels
    config.augmentation.noise = 0.0

    config.sampling = ml_collections.ConfigDict()
    config.sampling.centers = "uniform"  # ours: the paper names no rule
    config.sampling.background = 0.1  # of centers "weighted"; Falk et al. 2019
    config.sampling.jitter = 0.0  # pixels; uniform centers have any phase already

    config.data = ml_collections.ConfigDict()
    config.data.name = "folder"
    config.data.images = ""
    config.data.masks = ""
    config.data.image_suffix = ""
    config.data.mask_suffix = ""
    config.data.mask_type = "auto"
    config.data.ignore = None  # number of unannotated pixels in masks, beside -1
    config.data.within = ""  # fields of view, as in photographs of a retina
    config.data.channels = ()  # such as ("0", "2") or ("DAPI",); all
    config.data.train = ""
    config.data.validation = ""
    config.data.test = ""
    config.data.validation_images = ""
    config.data.validation_masks = ""
    config.data.test_images = ""
    config.data.test_masks = ""
    config.data.validation_fraction = 0.2  # unless another option names the images
    config.data.test_fraction = 0.0  # no test images
    config.data.guard = 64  # pixels, where there is one image only
    config.data.fold = ""  # of a cross-validation, such as "1/5"
    config.data.seed = 0  # of drawn parts, folds and synthetic images
    config.data.keep_split = False  # True resumes with the images of the beginning
    config.data.num_images = 10  # of name "synthetic"
    config.data.data_dir = ""
    config.data.manual_dir = ""

    config.instances = ml_collections.ConfigDict()
    config.instances.threshold = 0.5  # probability
    config.instances.method = "components"
    config.instances.seeds = "probability"  # of method "watershed"
    config.instances.seed_threshold = 0.8  # probability; of seeds "probability"
    config.instances.smoothing = 1.0  # pixels; of seeds "maps"
    config.instances.relative_smoothing = 0.0  # of the radius of cells; of seeds "maps"
    config.instances.merge_solidity = 0.0  # of method "watershed"; 0 merges no pieces
    config.instances.min_size = 0  # pixels
    config.instances.fill_holes = False

    config.devices = ml_collections.ConfigDict()
    config.devices.partition = "pmap"  # or "jit"; the numbers are the same
    return config
