"""Numbers, colours and ids of masks; what is void by convention, and what is only asked about."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_masks import SIDE, coloured, mask, photo, squares

from sslkit.errors import SslkitError, UsageError
from sslkit.probes.segmentation.annotations.colour_table import read_table
from sslkit.probes.segmentation.annotations.layouts.base import MaskedSet
from sslkit.probes.segmentation.annotations.likely_void import likely_void
from sslkit.probes.segmentation.annotations.pairs import pair
from sslkit.probes.segmentation.annotations.values import MaskOptions
from sslkit.probes.segmentation.mask_folder import MaskFolder, open_folder


def written(root: Path, *pixels: np.ndarray, palette: bool = False) -> None:
    for i, one in enumerate(pixels):
        photo(root / "images" / f"{i}.png")
        mask(root / "masks" / f"{i}.png", one, palette)


def opened(root: Path, **said) -> MaskFolder:
    return open_folder(MaskedSet(pair(root / "images", root / "masks")), MaskOptions(**said))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_numbers_of_any_width(tmp_path, dtype):
    photo(tmp_path / "images/0.png")
    (tmp_path / "masks").mkdir()
    values = (3, 7) if dtype == np.uint8 else (3, 4000)
    pixels = squares(*values, dtype=dtype)
    Image.fromarray(pixels).save(
        tmp_path / "masks" / ("0.png" if np.issubdtype(dtype, np.unsignedinteger) else "0.tif")
    )
    found = opened(tmp_path)
    assert list(found.classes) == ["0", *map(str, values)]
    assert found.read(0)[1][0, [0, 4, 8]].tolist() == [1, 2, 0]


def test_fractions_are_no_classes(tmp_path):
    photo(tmp_path / "images/0.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(squares(1, dtype=np.float32) / 3).save(tmp_path / "masks/0.tif")
    with pytest.raises(SslkitError, match=r"0\.tif holds fractions"):
        opened(tmp_path)


def test_void_by_convention_is_said_with_the_option_that_counts_it(tmp_path):
    written(tmp_path, squares(1, 2, 255), squares(1))
    found = opened(tmp_path)
    assert list(found.classes) == ["0", "1", "2"]
    share = 100 * 16 / (2 * SIDE**2)
    assert found.remarks == [f"void, never counted: value 255 ({share:.1f} % of the pixels); --void none counts all"]
    counted = opened(tmp_path, void="none")
    assert list(counted.classes) == ["0", "1", "2", "255"]
    assert not counted.remarks
    assert list(opened(tmp_path, void="2").classes) == ["0", "1", "255"]
    assert opened(tmp_path, void="2,255").binary
    for void in ("road", "2,x"):
        with pytest.raises(UsageError, match="neither a value nor a class"):
            opened(tmp_path, void=void)
    assert any("no mask holds 9, given by --void" in line for line in opened(tmp_path, void="9").remarks)


def trimap(side: int = 40) -> np.ndarray:
    """As Oxford-IIIT Pet's: 1 is the animal, 2 the background, 3 the border between them."""
    rows, columns = np.mgrid[:side, :side]
    distance = np.hypot(rows - side / 2, columns - side / 2)
    return np.select([distance < 10, distance < 11.5], [1, 3], 2).astype(np.uint8)


def test_a_thin_border_between_classes_is_asked_about_and_a_thin_object_is_not(tmp_path):
    photo(tmp_path / "images/0.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "images/0.png")
    mask(tmp_path / "masks/0.png", trimap())
    found = opened(tmp_path)
    assert list(found.classes) == ["1", "2", "3"]  # nothing is assumed
    said = "\n".join(found.remarks)
    assert "is value 3 void? It is thin borders between other classes" in said
    assert "--void 3 leaves it out" in said
    assert "no mask holds the background, 0: each of the values 1, 2, 3 is an object; --background VALUE" in said
    told = opened(tmp_path, void="3", background="2")
    assert not told.remarks
    assert told.objects == [0]
    assert told.read(0)[1][20, [0, 20]].tolist() == [1, 0]
    with pytest.raises(SslkitError, match="background or void"):
        opened(tmp_path, void="1,3", background="2")
    pole = np.zeros((40, 40), np.int64)
    pole[:, 20], pole[30:, :10] = 5, 1
    assert likely_void([pole], frozenset({0})) == {}
    outline = np.where(trimap() == 2, 0, trimap()).astype(np.int64)
    assert likely_void([outline, pole], frozenset({0})).keys() == {3}
    assert likely_void([np.where(outline == 3, 255, outline)], frozenset({0})).keys() == {255}


def test_a_question_keeps_what_is_void_already(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "p.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "p.png").rename(tmp_path / "images/0.png")
    pixels = np.where(trimap() == 2, 0, trimap())
    pixels[:4, :4] = 255
    mask(tmp_path / "masks/0.png", pixels)
    assert any("--void 3,255 leaves it out" in remark for remark in opened(tmp_path).remarks)


COLOURS = [(0, 0, 0), (200, 0, 0), (0, 200, 90)]


def test_colours_without_a_table_are_classes_and_black_is_none(tmp_path):
    written(tmp_path, coloured(squares(1, 2), COLOURS), coloured(squares(2), COLOURS), squares(0))
    found = opened(tmp_path)
    assert list(found.classes) == ["#000000", "#00c85a", "#c80000"]
    assert found.objects == [1, 2]
    assert found.read(0)[1][0, [0, 4, 8]].tolist() == [2, 1, 0]
    assert "a table names them: --palette FILE" in found.remarks[0]
    (tmp_path / "masks/labelmap.txt").write_text("# label:color_rgb:parts:actions\nleaf:200,0,0::\nsky:0,200,90::\n")
    named = opened(tmp_path)  # a palette of CVAT, next to the masks
    assert list(named.classes) == ["leaf", "sky"]
    assert "colours of 2 classes by labelmap.txt" in named.remarks
    assert any("stand for no class and are not counted; not in labelmap.txt" in line for line in named.remarks)
    other = tmp_path / "other.csv"
    other.write_text("1 2 3 a\n4 5 6 b\n")
    with pytest.raises(SslkitError, match=r"not those of other\.csv, which lacks 0 0 0, 0 200 90, 200 0 0"):
        opened(tmp_path, table=read_table(other))


def test_names_near_masks_of_numbers_are_offered(tmp_path):
    written(tmp_path, squares(1, 2))
    codes = tmp_path / "codes.txt"  # fastai's CamVid
    codes.write_text("Animal\nTraffic Light\n")
    assert not opened(tmp_path).remarks  # too few
    codes.write_text("Animal\nTraffic Light\nBridge\n")
    found = opened(tmp_path)
    assert list(found.classes) == ["0", "1", "2"]
    assert found.remarks == [f"{codes} may name the classes, in the order of its 3 lines: --palette {codes}"]
    assert list(opened(tmp_path, table=read_table(codes)).classes) == ["Animal", "Traffic Light", "Bridge"]
    assert opened(tmp_path, table=read_table(codes), void="traffic light").objects == [1]


def test_red_on_black_is_binary(tmp_path):
    written(tmp_path, coloured(squares(1), COLOURS))
    found = opened(tmp_path)
    assert found.binary
    assert not found.remarks


def test_palette_images_among_coloured_ones_count_by_their_colours(tmp_path):
    written(tmp_path, coloured(squares(1, 2), COLOURS))
    photo(tmp_path / "images/1.png")
    image = Image.fromarray(squares(1)).convert("P")
    image.putpalette([v for colour in COLOURS for v in colour])
    image.save(tmp_path / "masks/1.png")
    found = opened(tmp_path)
    assert found.read(1)[1][0, [0, 4]].tolist() == [2, 0]


def test_photos_are_no_masks(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    written(tmp_path, *[np.roll(noise, i, -1) for i in range(3)])
    with pytest.raises(SslkitError, match="more than 256 colours, as photos and JPEG files are"):
        opened(tmp_path)


def test_binary_masks_with_soft_edges_are_asked_about(tmp_path):
    soft = np.zeros((SIDE, SIDE), np.uint8)
    soft[:6] = 255
    soft[6, :] = np.linspace(30, 220, SIDE).astype(np.uint8)
    others = [np.where((soft > 0) & (soft < 255), soft + 5 * i, soft).astype(np.uint8) for i in range(5)]
    written(tmp_path, *others)
    assert any("soft edges, add --binary" in line for line in opened(tmp_path).remarks)
    assert opened(tmp_path, binary=True).binary
    written(tmp_path / "rgb", coloured(squares(1, 2), COLOURS))
    assert opened(tmp_path / "rgb", binary=True).read(0)[1][0, [0, 4, 8]].tolist() == [1, 1, 0]


TABLES = {
    "label_colors.txt": "64 128 64\tAnimal\n0 0 0\t\tVoid\n",
    "class_dict.csv": "name,r,g,b\nAnimal,64,128,64\nVoid,0,0,0\n",
    "semicolons.csv": "Name;Red;Green;Blue\nAnimal;64;128;64\nVoid;0;0;0\n",
    "numbered.csv": "id,name,r,g,b\n0,Animal,64,128,64\n1,Void,0,0,0\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nAnimal:64,128,64::\nVoid:0,0,0::\n",
    "hex.txt": "Animal #408040\nVoid #000000\n",
    "gimp.gpl": "GIMP Palette\nName: x\nColumns: 2\n#\n 64 128  64\tAnimal\n  0   0   0\tVoid\n",
    "map.json": '{"Animal": [64, 128, 64], "Void": [0, 0, 0]}',
    "list.json": '[{"name": "Animal", "color": "#408040"}, {"name": "Void", "color": "#000000"}]',
    "labels.json": '{"labels": [{"label": "Animal", "color": [64, 128, 64]}, {"label": "Void", "color": [0, 0, 0]}]}',
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_colours(tmp_path, name):
    (tmp_path / name).write_text(TABLES[name])
    table = read_table(tmp_path / name)
    assert list(table.colours) == [0x408040, 0]
    assert list(table.names) == ["Animal", "Void"]


def test_what_is_no_table_of_colours_is_said(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("cat 1\ndog 2\n")
    with pytest.raises(SslkitError, match=r"holds 0 colours: a table has a class a line, as in: 128 0 0 car"):
        read_table(path)
    with pytest.raises(SslkitError, match="cannot be read as a table"):
        read_table(tmp_path / "nowhere.csv")
    path.write_text("300 1 2 a\n1 1 1 b\n")
    with pytest.raises(SslkitError, match="300 1 2 is no colour"):
        read_table(path)


def test_a_list_may_name_photos_in_any_bytes(tmp_path):
    for name in ("caf\udce9", "\U0001f600 smile", "a.b"):
        photo(tmp_path / "images" / f"{name}.png")
        mask(tmp_path / "masks" / f"{name}_L.png", squares(1))
    listed = tmp_path / "list.txt"
    lines = "\ufeffimages/a.b.png", "caf\udce9 masks/caf\udce9_L.png", "\U0001f600 smile", "a.b"
    listed.write_bytes("\r\n".join(lines).encode(errors="surrogateescape"))
    found = open_folder(MaskedSet(pair(tmp_path / "images", tmp_path / "masks"), listed))
    assert found.names == ["a.b", "caf\udce9", "\U0001f600 smile"]


@pytest.mark.parametrize("scale", [2, 0.5])
def test_masks_may_be_scaled_versions_of_their_photos(tmp_path, scale):
    photo(tmp_path / "images/0.png")
    side = int(SIDE * scale)
    mask(tmp_path / "masks/0.png", np.array(Image.fromarray(squares(1, 2)).resize((side, side), 0)))
    found = opened(tmp_path)
    assert found.check() == ["1 mask is scaled to another size than the photo, and evaluated so: 0.png"]
    image, labels = found.read(0)
    assert image.shape == (3, SIDE, SIDE)
    assert labels.shape == (side, side)
