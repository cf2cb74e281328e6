"""The paper's reconstruction of an estimate: its U-Net on the plain inverse."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.estimators import Estimate
from models.hadamard import inverse_image
from models.learning.evaluation import Method
from models.learning.model_card import ModelFileError
from models.learning.model_file import TrainedModel
from models.learning.paper_unet import PaperUNet
from models.learning.precision import autocast


def paper_network(model: TrainedModel) -> Method:
    """x̂ = f_θ(Hz) of estimates of images scaled to a maximum of 1, as it was trained. Raises ModelFileError."""
    network = PaperUNet()
    try:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in model.weights.items()})
    except RuntimeError as error:
        raise ModelFileError(f"the weights are not those of the paper's U-Net: {error}") from error
    network.eval().requires_grad_(requires_grad=False)

    def image(estimate: Estimate) -> NDArray[np.float64]:
        taken = np.isfinite(estimate.variance)
        z = np.where(taken, estimate.coefficients, 0.0).astype(np.float32)
        with torch.inference_mode(), autocast(torch.device("cpu")):
            found = network(inverse_image(torch.from_numpy(z))[None])[0]
        return np.asarray(found.double().numpy(), dtype=np.float64)

    return image
