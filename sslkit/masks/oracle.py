"""Hide the true object: an upper reference for masks by attention, on data that comes with object masks.

Not a method: it looks at annotations. The patches are ranked by the share that the object covers, ties (mostly the
background's) at random.
"""

import numpy as np
import torch

from sslkit.masks.base import Crops, Masking, Masks, first


class OracleMasking(Masking):
    """Ranks tokens by how much of the object they show."""

    needs_objects = True

    def choose(self, crops: Crops) -> Masks:
        """Exactly ``counts`` tokens of each crop; see the base class."""
        assert crops.objects is not None
        order = np.stack([generator.permutation(crops.patches) for generator in crops.generators])
        shuffled = torch.from_numpy(order).to(crops.objects.device, non_blocking=True)
        ranked = crops.objects.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
        places = torch.arange(crops.patches, device=crops.objects.device)
        hidden = first(places, crops.counts)
        return Masks(torch.zeros_like(hidden).scatter(1, shuffled.gather(1, ranked), hidden), crops.counts)
