"""The page of attention maps in a browser: the slider keeps the patches that Python would, without errors."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from browser_fixture import page_errors
from PIL import Image

from sslkit.encoder.attention import threshold
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.plots.attention.contents import GalleryContents
from sslkit.plots.attention.gallery import draw_gallery
from sslkit.plots.attention.maps import HeadMaps
from sslkit.plots.attention.page import ImageSection, render, render_section
from sslkit.plots.attention.slider import control
from sslkit.probes.inspect.attention_maps import AttentionReader, read_images, read_kept

MASSES = (1, 20, 37, 60, 61, 99, 100)


def photo(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def ties() -> torch.Tensor:
    """(3, 4, 6) maps with ties, empty patches, and a map with all its mass on one patch."""
    maps = torch.randint(0, 4, (3, 4, 6), generator=torch.Generator().manual_seed(0)).float()
    maps[1] = 1
    maps[2] = 0
    maps[2, 1, 2] = 7
    return maps / 50


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> tuple[Path, HeadMaps]:
    """A page of one image whose maps have ties."""
    from sslkit.plots.attention.maps import head_mask_tiles, summary_tiles
    from sslkit.plots.attention.page import TileGroup

    drawn_maps = HeadMaps("ties", photo(40, 60), ties())
    groups = [TileGroup("mean", summary_tiles(drawn_maps)), TileGroup("heads", head_mask_tiles(drawn_maps))]
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(
        render("Maps", ["About."], [render_section(ImageSection("ties", "x.png", groups))], control(0.6, "60 %"))
    )
    return path, drawn_maps


def test_the_slider_keeps_the_patches_that_python_keeps(browser, drawn):
    path, drawn_maps = drawn
    page = browser.new_page(viewport={"width": 390, "height": 800})
    errors = page_errors(page)
    page.goto(path.as_uri())
    maps = torch.stack([drawn_maps.mean, drawn_maps.mean, *drawn_maps.maps])
    for percent in MASSES:
        page.locator("#mass").fill(str(percent))
        assert page.inner_text("#mass-told") == f"{percent} %"
        captions = page.locator("figure[data-steps] figcaption").all_inner_texts()
        expected = threshold(maps.flatten(1), percent / 100)
        assert [re.findall(r"[\d.]+", text)[-3:] for text in captions] == [
            [str(percent), str(int(mask.sum())), "24"] for mask in expected
        ]
        # What is seen, patch by patch: the picture in black and white, and one over the photo.
        for figure, mask in ((0, expected[0]), (2, expected[2])):
            found = kept(page, figure, drawn_maps.photo() if figure else None)
            assert np.array_equal(found, mask.view(4, 6).numpy()), (percent, figure)
    label = page.locator("figure[data-steps] canvas").nth(2).get_attribute("aria-label")
    assert label == f"ties: heads, head 1, 100 %, {int((drawn_maps.maps[0] > 0).sum())} of 24 patches"
    assert errors == []
    page.close()


def kept(page, figure: int, original: Image.Image | None) -> np.ndarray:
    """(4, 6) bool of the patches that a canvas shows, by its pixels."""
    uri = page.locator("figure[data-steps] canvas").nth(figure).evaluate("canvas => canvas.toDataURL()")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)
    whole = np.asarray(original).astype(int) if original is not None else np.full_like(pixels, 255)
    height, width = pixels.shape[0] / 4, pixels.shape[1] / 6
    found = np.zeros((4, 6), dtype=bool)
    for row, column in np.ndindex(4, 6):
        inside = np.s_[  # without its edges, where JPEG lets colours run
            int((row + 0.2) * height) : int((row + 0.8) * height),
            int((column + 0.2) * width) : int((column + 0.8) * width),
        ]
        found[row, column] = np.abs(pixels[inside] - whole[inside]).mean() < 20
    return found


def test_the_slider_works_with_keyboards_and_screen_readers(browser, drawn):
    page = browser.new_page()
    errors = page_errors(page)
    page.goto(drawn[0].as_uri())
    slider = page.get_by_label("Share of the mass in the masks")
    assert slider.is_visible()
    assert slider.get_attribute("aria-valuetext") == "60 percent of the mass"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "59"
    assert slider.get_attribute("aria-valuetext") == "59 percent of the mass"
    assert page.inner_text("#mass-told") == "59 %"
    assert errors == []
    page.close()


def test_without_scripts_the_pictures_are_shown_as_drawn(browser, drawn):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(drawn[0].as_uri())
    assert not page.locator("#mass").is_visible()
    assert page.locator("figure img").count() == 5 + 3
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_whole_page_fits_and_has_no_errors(browser, tmp_path, width, scheme):
    torch.manual_seed(0)
    spec = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=48, depth=2, heads=3)
    frozen = FrozenEncoder(Encoder(spec).eval(), 32, torch.device("cpu"), "fp32")
    reader = AttentionReader(frozen, layers=(1, 2), queries=(None, (0.5, 0.5)), rollout=True)
    seen = list(read_images([("one", photo(40, 40)), ("two", photo(40, 90))], reader, masking=True))
    history = read_kept([(1.0, reader.encoder)], [each.resized for each in seen], reader, masking=True)
    draw_gallery(GalleryContents(reader, mask_ratio=0.5, history=history), seen, tmp_path)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    errors = page_errors(page)
    page.goto((tmp_path / "index.html").as_uri())
    page.locator("#mass").fill("25")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    dark = [sum(map(int, re.findall(r"\d+", colour))) < 384 for colour in (ink, paper)]
    assert dark == ([True, False] if scheme == "light" else [False, True])
    assert errors == []
    page.close()
