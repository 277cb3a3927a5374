"""AttMask: hide what the teacher attends to (arXiv:2203.12719).

The teacher sees the unmasked crop. Its last block's attention from CLS to the patches, averaged over heads, ranks
the tokens. ``high`` hides the most attended ones, which makes the student's task hard; ``hint`` does the same but
reveals a few of them; ``low`` hides the least attended ones, which makes it easy.
"""

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from sslkit.errors import UsageError
from sslkit.masks.base import Crops, Masking, Masks, first, rank


class AttentionMasking(Masking):
    """Ranks tokens by the teacher's attention."""

    order: Literal["high", "hint", "low"] = "high"
    # The paper draws one ratio for the whole batch, the other strategies' papers one for each crop.
    ratio_per: Literal["crop", "step"] = "step"
    hint_share: float = Field(default=0.1, ge=0, le=1)  # hint reveals among this share of the most attended tokens

    needs_attention = True

    def check(self, patches: int) -> None:
        """A hint must not reveal all that is hidden, either."""
        super().check(patches)
        hidden, top = (int(share * patches) for share in (self.ratio[1], self.hint_share))
        # The hint has a ratio of its own, at least the lowest.
        if self.order == "hint" and hidden <= min(top, int(self.hint_share * self.ratio[0] * patches)):
            raise UsageError(
                f"mask.hint_share {self.hint_share:g} reveals all that mask.ratio {list(self.ratio)} hides of "
                f"{patches} patches: lower it"
            )

    def choose(self, crops: Crops) -> Masks:
        """Exactly ``counts`` tokens of each crop, fewer for ``hint``; see the base class."""
        attention = crops.attention
        assert attention is not None
        ranks = rank(attention if self.order != "low" else -attention)
        mask = first(ranks, crops.counts)
        if self.order != "hint":
            return Masks(mask, crops.counts)
        shown = self._shown_ranks(crops)
        revealed = torch.from_numpy(shown).to(attention.device, non_blocking=True).gather(1, ranks)
        return Masks(mask & ~revealed, crops.counts - shown.sum(1))

    def _shown_ranks(self, crops: Crops) -> np.ndarray:
        """(C, N) bool: which ranks a hint reveals. Their number can be 0 on small grids."""
        ratio = crops.shared.uniform(*self.ratio)  # another draw, independent of the masking ratio
        shown = np.zeros((len(crops.counts), crops.patches), dtype=bool)
        for row, count, generator in zip(shown, crops.counts, crops.generators, strict=True):
            top = min(int(self.hint_share * crops.patches), int(count))
            row[generator.permutation(top)[: int(self.hint_share * ratio * crops.patches)]] = True
        return shown
