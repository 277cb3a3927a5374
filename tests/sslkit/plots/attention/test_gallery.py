"""The gallery of attention maps: its files, its numbers, and its page."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.spec import EncoderSpec
from sslkit.plots.attention.contents import GalleryContents
from sslkit.plots.attention.gallery import draw_gallery
from sslkit.probes.inspect.attention_maps import AttentionReader, read_images
from sslkit.probes.inspect.hidden_patches import strategies


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    spec = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=4, width=48, depth=2, heads=3)
    return Encoder(spec).eval()


def photo(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draw(encoder: Encoder, images: list[tuple[str, torch.Tensor]], folder: Path, ratio: float | None = None) -> dict:
    reader = AttentionReader(FrozenEncoder(encoder, 32, torch.device("cpu"), "fp32"))
    seen = list(read_images(images, reader, masking=ratio is not None))
    return draw_gallery(GalleryContents(reader, mask_ratio=ratio), seen, folder)


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


def test_the_page_is_self_contained_and_its_links_work(encoder: Encoder, tmp_path: Path) -> None:
    images = [("a & <b>.jpg", photo(40, 40)), ("größe 1.png", photo(40, 40))]
    results = draw(encoder, images, tmp_path, 0.5)
    pictures = results.pop("pictures")
    assert results == {"images": 2, "heads": 3, "patches": 64, "page": "index.html"}
    assert [picture["file"] for picture in pictures] == ["0000-a-b-jpg.png", "0001-gr-e-1-png.png"]
    assert all("(uniform: 1.6 %)" in picture["alt"] for picture in pictures)
    assert Image.open(tmp_path / pictures[0]["file"]).text["Description"] == pictures[0]["alt"]
    text = (tmp_path / "index.html").read_text()
    page = Page(text)
    assert all((tmp_path / link).is_file() for link in page.links)
    assert len(page.links) == 2
    assert len(page.images) == 2 * (5 + 3 + 3 + 1 + len(strategies(0.5)))
    assert all(image["alt"] and re.match("data:image/(png|jpeg);base64,", image["src"]) for image in page.images)
    assert page.tags.count("script") == 1
    assert "http" not in text
    assert "a &amp; &lt;b&gt;.jpg" in text
    with np.load(tmp_path / "maps.npz") as arrays:
        assert arrays["maps"].shape == (2, 3, 8, 8)
        assert arrays["names"].tolist() == ["a & <b>.jpg", "größe 1.png"]


def test_maps_of_unequal_grids_are_saved_one_by_one(encoder: Encoder, tmp_path: Path) -> None:
    draw(encoder, [("a", photo(40, 40)), ("b", photo(40, 80))], tmp_path)
    with np.load(tmp_path / "maps.npz") as arrays:
        assert arrays["map_0000"].shape == (3, 8, 8)
        assert arrays["map_0001"].shape == (3, 8, 16)
        assert arrays["names"].tolist() == ["a", "b"]
