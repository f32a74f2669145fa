"""µ behind a wall as a metric of Quantus 0.6, and our saliency methods as its explain_func.

    from walls.sanity.quantus import DeadZoneActivity, explain

    model = walls.behind(network)
    metric = DeadZoneActivity()
    metric(model=model, x_batch=pairs, y_batch=classes, explain_func=explain,
           explain_func_kwargs={"method": "GradCAM"}, channel_first=True)

Takes the package quantus, which isn't among what `walls` installs.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from quantus.helpers.enums import DataType, EvaluationCategory, ModelType, ScoreDirection
from quantus.metrics.base import Metric

from walls.network.certificate import certify
from walls.network.classifier import Classifier
from walls.saliency.activity import activity, upscale
from walls.saliency.maps import saliency_maps

CERTIFIED = 4  # images that the wall is certified on


class DeadZoneActivity(Metric[list[float]]):
    """µ(Λ) = ‖Λ in the dead zone‖₂ / ‖Λ‖₂ (Eq. 7 of the paper), in [0, 1]; lower is better.

    The dead zone is the model's own, certified on its weights in every call; a segmentation
    (`s_batch`) isn't read. µ of an all-zero map is NaN, which the default aggregation leaves out.
    """

    name = "Activity in the dead zone"
    data_applicability: ClassVar = {DataType.IMAGE}
    model_applicability: ClassVar = {ModelType.TORCH}
    score_direction = ScoreDirection.LOWER
    evaluation_category = EvaluationCategory.AXIOMATIC

    def __init__(
        self,
        abs: bool = False,
        normalise: bool = False,
        normalise_func: Callable[[np.ndarray], np.ndarray] | None = None,
        normalise_func_kwargs: dict[str, Any] | None = None,
        return_aggregate: bool = False,
        aggregate_func: Callable = np.nanmean,
        default_plot_func: Callable | None = None,
        disable_warnings: bool = False,
        display_progressbar: bool = False,
        **kwargs: Any,
    ):
        """As of every metric of Quantus; `abs`: scores below zero count by their size, not as 0.

        µ doesn't change with a map's scale, so that nothing is normalised by default.
        """
        super().__init__(
            abs=abs,
            normalise=normalise,
            normalise_func=normalise_func,
            normalise_func_kwargs=normalise_func_kwargs,
            return_aggregate=return_aggregate,
            aggregate_func=aggregate_func,
            default_plot_func=default_plot_func,
            disable_warnings=disable_warnings,
            display_progressbar=display_progressbar,
            **kwargs,
        )

    def __call__(
        self,
        model: Classifier,
        x_batch: np.ndarray,
        y_batch: np.ndarray,
        a_batch: np.ndarray | None = None,
        s_batch: np.ndarray | None = None,
        channel_first: bool | None = None,
        explain_func: Callable | None = None,
        explain_func_kwargs: dict[str, Any] | None = None,
        model_predict_kwargs: dict[str, Any] | None = None,
        softmax: bool | None = False,
        device: str | None = None,
        batch_size: int = 64,
        **kwargs: Any,
    ) -> list[float]:
        """µ of every map: `a_batch` (N, H, W) or (N, C, H, W), or what `explain_func` gives.

        `model`: a network behind a wall (`walls.behind`); `x_batch`: whole images, both parts,
        normalised as it takes them. `explain_func`: `(model, inputs, targets, **kwargs)` to maps.
        Raises ValueError for a model without a wall, images of another height, a wall that isn't
        certified, and maps that aren't finite.
        """
        return super().__call__(
            model=model,
            x_batch=x_batch,
            y_batch=y_batch,
            a_batch=a_batch,
            s_batch=s_batch,
            channel_first=channel_first,
            explain_func=explain_func,
            explain_func_kwargs=explain_func_kwargs,
            model_predict_kwargs=model_predict_kwargs,
            softmax=softmax,
            device=device,
            batch_size=batch_size,
            custom_batch=None,
            **kwargs,
        )

    def custom_preprocess(self, *, model: Any, x_batch: np.ndarray, **kwargs: Any) -> None:
        """ValueError for a model without a wall, or one that isn't certified on its weights."""
        network = None if model is None else model.get_model()
        if not isinstance(network, Classifier) or not network.wall_rows:
            raise ValueError(
                f"model: got {type(network).__name__}; takes a network behind a wall, such as "
                "walls.behind(network)"
            )
        images = torch.as_tensor(np.asarray(x_batch[:CERTIFIED]))
        certify(network, x_batch.shape[2], images).require()

    def evaluate_batch(
        self, *, model: Any, x_batch: np.ndarray, a_batch: np.ndarray, **kwargs: Any
    ) -> list[float]:
        """µ of every map of a batch; a pixel with several scores counts by their l2 norm."""
        scores = torch.as_tensor(np.asarray(a_batch)).double()
        size = tuple(x_batch.shape[2:])
        if scores.ndim != 4 or scores.shape[2:] != size:
            got = tuple(scores.shape)
            raise ValueError(f"a_batch: got {got}; takes maps of the image's size {size}")
        maps = (scores.abs() if self.abs else scores.clamp_min(0)).square().sum(1).sqrt()
        zone = model.get_model().zone(size[0])
        return activity(maps, zone).tolist()


def explain(
    model: Classifier,
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    method: str = "GradCAM",
    options: Mapping[str, object] | None = None,
    device: str | None = None,
) -> np.ndarray:
    """One of our methods' maps as Quantus takes them, upscaled: (N, 1, H, W) in [0, 1].

    For `explain_func`, with `explain_func_kwargs={"method": NAME}`; `options`: the method's own
    settings; `device`: what Quantus adds, not read, since maps are made where the model is.
    Raises ValueError as `walls.saliency_maps` does.
    """
    images = torch.as_tensor(np.asarray(inputs))
    classes = torch.as_tensor(np.asarray(targets)).long()
    own = {method: options} if options else None
    found = saliency_maps(model, images, [method], classes, options=own, progress=_silent)
    return upscale(found[method], tuple(images.shape[2:]))[:, None].cpu().numpy()


def _silent(count: int) -> None:
    """No bar of ours: Quantus has its own."""
