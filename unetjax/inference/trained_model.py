"""`TrainedModel`: a trained network with everything that is needed to apply it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import PyTree

from unetjax.inference import predict, segment
from unetjax.inference.image_statistics import ImageStatistics
from unetjax.instances.settings import InstanceSettings
from unetjax.network.forward import check_variables
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet
from unetjax.settings import check_fields, check_range


@dataclass(frozen=True)
class Provenance:
    """Where a trained model comes from; what is unknown is None or empty.

    Attributes:
      step: Number of updates.
      scores: Scores on the validation images after these updates; None where a score
        is undefined. They chose the model and are optimistic.
      test_scores: Scores on the test images, likewise; empty without test images.
      num_train_images: Number of training images.
      image_dtype: Type in which their grey values were stored, such as `uint8`.
      config: All options of the experiment, as nested dictionaries.
      instances_chosen: How the instance settings were chosen, in a sentence.
      images: Grey values and pixel size of the training images.
      trial: Name of the trial, for the best model of a sweep.
      notes: Free text.
    """

    step: int | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)
    test_scores: Mapping[str, float | None] = field(default_factory=dict)
    num_train_images: int | None = None
    image_dtype: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    instances_chosen: str = ""
    images: ImageStatistics = field(default_factory=ImageStatistics)
    trial: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network with everything that is needed to apply it.

    `unetjax.load_model` reads one from a model folder.

    Attributes:
      model: The network.
      params: Its parameters.
      model_state: Its other collections (batch statistics).
      input_scaling: From grey values as stored to network input.
      class_names: Name of every class, background first; empty if they have none.
      instances: Post-processing from probabilities to instances.
      selected_channels: Which channels of the training files its images consist of, see
        `files.images.read_stack`; empty if they are all.
      object_diameter: Median diameter of the objects it was trained on, in pixels; None
        if it is unknown. `segment(..., scale="auto")` needs it.
      provenance: What it was trained on, and its scores.

    Raises:
      ValueError: On construction, for a value that is not accepted.
    """

    model: UNet
    params: PyTree
    model_state: Mapping[str, Any] = field(default_factory=dict)
    input_scaling: InputScaling = InputScaling("none")
    class_names: tuple[str, ...] = ()
    instances: InstanceSettings = InstanceSettings()
    selected_channels: tuple[str, ...] = ()
    object_diameter: float | None = None
    provenance: Provenance = Provenance()

    def __post_init__(self) -> None:
        """Validates all fields."""
        check_fields(self)
        check_variables(self.params, self.model_state)
        if self.object_diameter is not None:
            check_range("object_diameter", self.object_diameter, above=0)
        if self.class_names and len(self.class_names) != self.model.num_classes:
            raise ValueError(
                f"class_names must name all {self.model.num_classes} classes or none, "
                f"got {len(self.class_names)} names."
            )

    # The functions are the methods: one signature, one documentation.
    predict = predict.predict
    segment = segment.segment
