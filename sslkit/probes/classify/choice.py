"""How a setting was chosen on held-out images, in words, and whether a better one may lie outside what was tried."""

from collections.abc import Mapping, Sequence
from typing import Any

from sslkit.errors import noun_for


def chosen_by(results: Mapping[str, Any]) -> str:
    """By which accuracy on how many held-out images; results of earlier versions do not say how many.

    >>> chosen_by({"held_out_top1": 15.0, "held_out_images": 20})
    '15.00 % of 20 held-out train images'
    """
    percent = f"{results['held_out_top1']:.2f} %"
    if "held_out_images" not in results:
        return f"{percent} on held-out train"
    count = results["held_out_images"]
    return f"{percent} of {count} held-out train {noun_for(count, 'image')}"


def edge_remark(lr: float, sweep: Sequence[Mapping[str, Any]]) -> str:
    """A remark where the chosen rate is the largest or smallest one and really better than the next, else empty.

    Args:
        lr: the chosen learning rate.
        sweep: the settings, with their ``lr`` and ``held_out_top1`` (percent; None where nothing was held out).

    >>> edge_remark(0.3, [{"lr": 0.1, "held_out_top1": 45.0}, {"lr": 0.3, "held_out_top1": 45.0}])
    ''
    """
    best: dict[float, float] = {}
    for row in sweep:
        if row["held_out_top1"] is None:
            return ""
        best[row["lr"]] = max(row["held_out_top1"], best.get(row["lr"], 0.0))
    rates = sorted(best)
    if len(rates) < 2 or lr not in (rates[0], rates[-1]):
        return ""
    largest = lr == rates[-1]
    inner = rates[-2] if largest else rates[1]
    if best[lr] <= best[inner]:
        return ""
    beyond = [float(f"{lr * (lr / inner) ** n:.1g}") for n in (1, 2)]
    wider = " ".join(f"--lr {rate:g}" for rate in sorted([inner, lr, *beyond]))
    return (
        f"lr {lr:g} is the {'largest' if largest else 'smallest'} that was tried, and better on held-out train than "
        f"{inner:g} ({best[lr]:.1f} against {best[inner]:.1f} %): a {'larger' if largest else 'smaller'} one may be "
        f"better still; try {wider} --force"
    )
