"""Pictures inside a page."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from sslkit.plots.inline import inline


def test_pictures_are_scaled_to_the_budget_and_those_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    names = [tmp_path / f"{n}.png" for n in range(3)]
    for number, path in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 2400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "broken.png").write_text("no picture")
    large = inline([*names, tmp_path / "broken.png"])
    assert list(large) == names
    assert {(p.width, p.height) for p in large.values()} == {(1600, 32)}
    sizes = [len(picture.uri) * 3 / 4 for picture in large.values()]
    smaller = inline(names, budget=int(sum(sizes) / 2))
    assert list(smaller) == names
    assert {picture.width for picture in smaller.values()} <= {1000, 640}
    assert inline(names, budget=10) == {}
    with Image.open(io.BytesIO(names[0].read_bytes())) as untouched:
        assert untouched.width == 2400
