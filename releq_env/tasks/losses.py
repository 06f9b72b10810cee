"""Losses that torch does not have."""

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(outputs: Tensor, teacher_outputs: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the cross-entropy with the probabilities that a teacher gives (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        outputs: Logits, shape `(N, classes, ...)`.
        teacher_outputs: The teacher's, same shape.
        temperature: Of both softmaxes. The loss is multiplied by its square, so that the gradient's size
            depends little on it.
    """
    probabilities = torch.softmax(teacher_outputs / temperature, dim=1)
    return temperature**2 * F.cross_entropy(outputs / temperature, probabilities)
