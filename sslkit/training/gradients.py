"""The gradient of each objective on the encoder: how strong it is, and whether two of them agree or conflict."""

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit.data.batch import Batch
from sslkit.device import Precision, autocast
from sslkit.distributed import process_group as distributed
from sslkit.encoder.encoder import Encoder
from sslkit.methods.base import Method
from sslkit.schedules import Moment
from sslkit.training.loss_scale import LossScale


def by_term(
    method: Method,
    names: list[str],
    batch: Batch,
    at: Moment,
    device: torch.device,
    precision: Precision,
    scale: LossScale,
) -> dict[str, Tensor]:
    """Norms of the weighted terms' gradients on the encoder, and cosines between them.

    Every term gets a separate forward pass: ``torch.compile`` refuses several backward passes through one graph. A
    forward pass changes no state but some buffers (a ResNet's statistics), and those are restored.

    Returns:
        ``<term>/encoder_gradient`` and ``<term>.<other>/cosine``, 0-dim, means over all processes of the gradients.
    """
    encoders = (module for module in method.modules() if isinstance(module, Encoder))
    trained = ([p for p in encoder.parameters() if p.requires_grad] for encoder in encoders)
    parameters = next(filter(None, trained), [])  # of the first encoder that is trained
    buffers = [(b, b.clone()) for b in method.buffers()]
    found = {}
    for name in names:
        with autocast(device, precision):
            term = method(batch, at).terms[name]
        found[name] = _flat_gradient(scale.apply(term), parameters) / scale.value()
    for buffer, before in buffers:
        buffer.copy_(before)
    found = distributed.mean(found)
    metrics = {f"{name}/encoder_gradient": gradient.norm() for name, gradient in found.items()}
    for one, other in combinations(names, 2):
        metrics[f"{one}.{other}/cosine"] = F.cosine_similarity(found[one], found[other], dim=0)
    return metrics


def _flat_gradient(term: Tensor, parameters: list[torch.nn.Parameter]) -> Tensor:
    if not term.requires_grad:
        return torch.cat([torch.zeros_like(p).flatten() for p in parameters])
    gradients = torch.autograd.grad(term, parameters, allow_unused=True)
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).float().flatten() for g, p in pairs])
