"""When the attention of a training run is drawn."""

from types import SimpleNamespace

import pytest

from stages.contract.layout import Run
from stages.inputs import watching


@pytest.mark.parametrize("start", [0, 9, 10, 18, 19])
def test_a_resumed_run_draws_what_an_undisturbed_one_draws(start, tmp_path, monkeypatch):
    drawn = []

    class Pictures:
        def __init__(self, *_: object):
            pass

        def draw(self, step: int, epoch: float) -> None:
            drawn.append(step)

    monkeypatch.setattr(watching, "AttentionPictures", Pictures)
    monitor = SimpleNamespace(log_steps=10)
    trainer = SimpleNamespace(
        begun=True, step=start, total=24, steps_per_epoch=4, recipe=SimpleNamespace(monitor=monitor)
    )
    asked = watching.Watch(attention_every=1.5)
    with watching.watched(Run(tmp_path), asked, trainer, None, None) as tell:  # type: ignore[arg-type]
        for step in (10, 20, 24):
            if step > start:
                tell({"step": step, "epoch": step / 4})
    assert drawn == [step for step in (0, 10, 20, 24) if step > start or (step == start == 0)]
