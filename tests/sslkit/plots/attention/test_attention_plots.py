"""Attention as pictures: the mask against DINO's own code, sizes, and what the pictures show."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FIXTURES
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sslkit.encoder.attention import MAX_TOKENS, model_size, threshold
from sslkit.encoder.encoder import Encoder, EncoderSpec
from sslkit.errors import SslkitError
from sslkit.plots.attention.gallery import Look, attend, draw_gallery
from sslkit.plots.attention.hidden import hide, strategies
from sslkit.plots.attention.maps import SHADE, Portrait, draw_sheet, head_tiles, heat, shade, summary_tiles
from sslkit.plots.sheet import Tile, compose


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    spec = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=4, width=48, depth=2, heads=3)
    return Encoder(spec).eval()


def photo(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_mask_is_that_of_the_authors_code() -> None:
    with np.load(FIXTURES / "attention_threshold.npz") as oracle:
        mask = threshold(torch.from_numpy(oracle["attention"]), float(oracle["keep"]))
        assert torch.equal(mask, torch.from_numpy(oracle["mask"]))


@given(
    st.lists(st.floats(0.001, 1), min_size=2, max_size=40).map(lambda v: torch.tensor(v, dtype=torch.float64)),
    st.floats(0.05, 0.95),
)
def test_the_mask_is_the_smallest_that_holds_the_mass(attention: torch.Tensor, keep: float) -> None:
    mask, share = threshold(attention, keep), attention / attention.sum()
    assert share[mask].sum() >= keep - 1e-9
    assert share[mask].sum() - share[mask].min() <= keep + 1e-9
    if not mask.all():
        assert share[mask].min() >= share[~mask].max()


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 600), st.sampled_from([4, 8, 14, 16]))
def test_model_size_is_whole_patches_in_proportion(height: int, width: int, shorter: int, patch: int) -> None:
    rows, columns = (side // patch for side in model_size(height, width, shorter, patch))
    assert min(rows, columns) >= 1
    assert rows * columns <= max(MAX_TOKENS, (shorter // patch) ** 2)
    assert (rows <= columns) == (height <= width) or rows == columns
    small, ratio = max(shorter // patch, 1), max(height, width) / min(height, width)
    if small * (small * ratio + 1) <= MAX_TOKENS:
        assert min(rows, columns) == small
        assert abs(max(rows, columns) - ratio * min(rows, columns)) <= 1


def test_maps_are_squares_scaled_to_their_own_maximum() -> None:
    pixels = np.asarray(heat(torch.tensor([[0.0, 0.1], [0.2, 0.4]])))
    assert pixels.shape == (2, 2, 3)
    brightness = pixels.astype(int).sum(2)
    assert brightness[0, 0] < brightness[0, 1] < brightness[1, 0] < brightness[1, 1]
    assert np.array_equal(np.asarray(heat(torch.full((2, 2), 1e-3))), np.asarray(heat(torch.ones(2, 2))))
    assert np.asarray(heat(torch.zeros(2, 2))).shape == (2, 2, 3)


def test_shade_covers_whole_patches_and_nothing_else() -> None:
    hidden = torch.tensor([[True, False], [False, False]])
    pixels = np.asarray(shade(Image.new("RGB", (8, 8), (255, 0, 0)), hidden, strength=1.0))
    assert (pixels[:4, :4] == SHADE).all()
    assert (pixels[4:] == (255, 0, 0)).all()


def test_a_sheet_names_every_head_and_keeps_the_proportion() -> None:
    portrait = Portrait("wide", photo(30, 60), torch.rand(7, 4, 8))
    tiles = head_tiles(portrait)
    assert [tile.title.split(",")[0] for tile in tiles] == [f"head {i}" for i in range(1, 8)]
    assert {tile.picture.size for tile in [*tiles, *summary_tiles(portrait)]} == {(176, 88)}
    assert draw_sheet([tiles]).height > 2 * 88  # seven heads take two rows


def test_a_sheet_of_one_untitled_tile() -> None:
    assert compose([[Tile("", Image.new("RGB", (5, 7)))], []]).size == (25, 27)


def test_every_masking_is_drawn_and_hides_the_asked_share() -> None:
    attention = torch.rand(10, 14)
    hidden = hide(strategies(0.5), attention, 3)
    assert {"random", "block", "attention high", "attention hint", "attention low"} <= hidden.keys()
    high, low = hidden["attention high"], hidden["attention low"]
    assert attention[high].min() >= attention[~high].max()
    assert torch.equal(low, ~high)
    assert int(hidden["random"].sum()) == 70
    assert int(hidden["block"].sum()) <= 70
    assert int(hidden["attention hint"].sum()) < 70
    again = hide(strategies(0.5), attention, 3)
    assert all(torch.equal(hidden[name], again[name]) for name in hidden)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (50, 100), (3000, 20), (1, 1)])
def test_photos_of_any_size(encoder: Encoder, height: int, width: int) -> None:
    maps = attend(encoder, photo(height, width), Look(32))
    rows, columns = model_size(height, width, 32, 4)
    assert maps.shape == (3, rows // 4, columns // 4)
    assert (maps.flatten(1).sum(1) < 1).all()


def test_models_without_cls_attention_are_one_line() -> None:
    pooled = Encoder(EncoderSpec("vit_base_patch16_gap_224", image_size=32, width=48, depth=1, heads=3)).eval()
    with pytest.raises(SslkitError, match=r"no CLS token.*needs a ViT with a CLS token") as caught:
        attend(pooled, photo(32, 32), Look(32))
    assert caught.value.exit_code == 1
    with pytest.raises(SslkitError, match="resnet10t is no ViT") as caught:
        attend(Encoder(EncoderSpec("resnet10t")).eval(), photo(32, 32), Look(32))
    assert caught.value.exit_code == 1


def test_weights_that_are_not_finite_are_one_line(encoder: Encoder) -> None:
    broken = Encoder(encoder.spec).eval()
    with torch.no_grad():
        broken.model.cls_token.fill_(float("nan"))
    with pytest.raises(SslkitError, match="not finite"):
        attend(broken, photo(32, 32), Look(32))


class Page(HTMLParser):
    """Collects what a test asks of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.images: list[dict] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "a":
            self.links.append(dict(attrs)["href"])


def test_the_page_stands_alone_and_its_links_lead_somewhere(encoder: Encoder, tmp_path: Path) -> None:
    images = [("a & <b>.jpg", photo(40, 40)), ("größe 1.png", photo(40, 40))]
    results = draw_gallery(encoder, images, tmp_path, Look(32, mask_ratio=0.5))
    pictures = results.pop("pictures")
    assert results == {"images": 2, "heads": 3, "patches": 64, "page": "index.html"}
    assert [picture["file"] for picture in pictures] == ["0000-a-b-jpg.png", "0001-gr-e-1-png.png"]
    assert all("(uniform: 1.6 %)" in picture["alt"] for picture in pictures)
    assert Image.open(tmp_path / pictures[0]["file"]).text["Description"] == pictures[0]["alt"]
    text = (tmp_path / "index.html").read_text()
    page = Page(text)
    assert all((tmp_path / link).is_file() for link in page.links)
    assert len(page.links) == 2
    assert len(page.images) == 2 * (5 + 3 + 3 + 1 + 5)
    assert all(image["alt"] and re.match("data:image/(png|jpeg);base64,", image["src"]) for image in page.images)
    assert page.tags.count("script") == 1
    assert "http" not in text
    assert "a &amp; &lt;b&gt;.jpg" in text
    with np.load(tmp_path / "maps.npz") as arrays:
        assert arrays["maps"].shape == (2, 3, 8, 8)
        assert arrays["names"].tolist() == ["a & <b>.jpg", "größe 1.png"]


def test_maps_of_unequal_grids_are_kept_one_by_one(encoder: Encoder, tmp_path: Path) -> None:
    draw_gallery(encoder, [("a", photo(40, 40)), ("b", photo(40, 80))], tmp_path, Look(32))
    with np.load(tmp_path / "maps.npz") as arrays:
        assert arrays["map_0000"].shape == (3, 8, 8)
        assert arrays["map_0001"].shape == (3, 8, 16)
        assert arrays["names"].tolist() == ["a", "b"]


def test_no_image_is_one_line(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(SslkitError, match="no image to look at"):
        draw_gallery(encoder, [], tmp_path, Look(32))
