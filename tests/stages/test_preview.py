"""`sslkit preview`: the picture of what a model sees, and its agreement with what training begins with."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD
from sslkit.plots.pictures import SHADE
from sslkit.plots.views import draw_views, unnormalise
from stages.contract.lock import held

QUICK = ["--device", "cpu", "--precision", "fp32"]


@pytest.fixture
def crops() -> tuple[torch.Tensor, torch.Tensor]:
    """An image (3, 32, 32) uint8, and it normalised as two views of three images."""
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return image, ((image / 255 - mean) / std).expand(2, 3, 3, 32, 32)


def test_views_are_shown_as_they_were_and_masks_are_grey(crops, tmp_path: Path) -> None:
    image, views = crops
    assert torch.equal(unnormalise(views)[1, 2], image)
    masks = torch.zeros(2, 3, 64, dtype=torch.bool)
    masks[0] = True
    groups = {"global": views, "local": views[..., :16, :16]}
    draw_views(groups, masks, (8, 8), (), tmp_path / "views.png", rows=2)
    with Image.open(tmp_path / "views.png") as picture:
        assert picture.size == (10 + 4 * 138 + 2 * 82, 10 + 20 + 2 * 138)
        assert picture.getpixel((10 + 2 * 138 + 64, 94)) == SHADE
        assert picture.getpixel((10 + 3 * 138 + 64, 94)) != SHADE


def test_captions_stand_left_of_their_row_and_rows_keep_their_columns(crops, tmp_path: Path) -> None:
    views = crops[1][:1]
    draw_views({"image": views}, None, None, (), tmp_path / "plain.png")
    captions = ["a cat", "", "turned by 270 degrees, which is the third of four answers"]
    wide = {"image": views, "a title wider than its picture is": views}
    draw_views(wide, None, None, captions, tmp_path / "views.png")
    with Image.open(tmp_path / "plain.png") as plain, Image.open(tmp_path / "views.png") as picture:
        assert plain.size == (10 + 138, 10 + 20 + 3 * 138)
        shift = 140
        first, third = (picture.crop((0, 30 + 138 * row, shift, 30 + 138 * row + 128)) for row in (0, 2))
        assert len(first.getcolors(9999)) > 1
        assert len(third.getcolors(9999)) > 1
        assert picture.crop((0, 30 + 138, shift, 30 + 138 + 128)).getcolors() == [(shift * 128, (255, 255, 255))]
        # Below the title each row shows the same image in the same place.
        rows = [picture.crop((shift, 30 + 138 * row, picture.width, 30 + 138 * row + 128)) for row in range(3)]
        assert rows[0].tobytes() == rows[1].tobytes() == rows[2].tobytes()
        assert rows[0].crop((10, 0, 138, 128)).tobytes() == plain.crop((10, 30, 138, 158)).tobytes()


def test_the_preview_is_what_training_begins_with(sslkit, shapes_run: Path, tiny_scale: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [run, "--data", shapes_run, "--recipe", "attmask", "--recipe", tiny_scale, "--epochs", 0.2, *QUICK]
    words += ["--set", "mask.probability=1"]
    code, out, err = sslkit("preview", *words)
    picture = run / "preview" / "views.png"
    assert code == 0, err
    assert out.splitlines()[0] == "2 global of 32 x 32, 2 local of 16 x 16 pixels"
    assert out.splitlines()[1].startswith("12 of 12 crops masked")
    assert out.splitlines()[2] == str(picture)
    assert "epochs: 0.2\n" in (run / "preview" / "recipe.yaml").read_text()
    assert sslkit("pretrain", *words, "--workers", 0)[0] == 0
    assert picture.read_bytes() == (run / "pretrain" / "views.png").read_bytes()

    # Drawn anew without --force, and while another process holds the run.
    with Image.open(picture) as six_rows:
        height = six_rows.height
    with held(run, "pretrain"):
        code, out, _ = sslkit("preview", *words, "--images", 2, "--json")
    seen = json.loads(out)
    assert seen["images"] == 2
    assert seen["pictures"] == {"global": [2, 32, 32], "local": [2, 16, 16]}
    assert (seen["crops"], seen["masked_crops"]) == (4, 4)
    assert 0 < seen["hidden"] <= 0.5
    with Image.open(picture) as two_rows:
        assert two_rows.height < height


def test_what_is_missing_is_named(sslkit, shapes_run: Path, tmp_path: Path) -> None:
    code, _, err = sslkit("preview", shapes_run)
    assert code == 2
    assert "--recipe dino" in err
    code, _, err = sslkit("preview", tmp_path / "run", "--recipe", "dino")
    assert code == 1
    assert "sslkit prepare" in err
    code, _, err = sslkit("preview", shapes_run, "--recipe", "dino", "--set", "optim.lrr=1")
    assert code == 2
    assert "did you mean 'optim.lr'" in err
    assert not (tmp_path / "run").exists()
