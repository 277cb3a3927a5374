"""`sslkit attn-viz` with more than the last layer: layers, queries, rollout, timelines, another run."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sslkit.data.images import decode
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.layer_attention import attention_maps
from sslkit.encoder.spec import EncoderSpec
from sslkit.files import write_json
from sslkit.probes.inspect.attention_maps import AttentionReader
from sslkit.weights.read import load_encoder
from sslkit.weights.write import save_encoder
from stages.contract.layout import Run

FAST = ["--precision", "fp32", "--device", "cpu"]


@pytest.fixture
def run(trained_run, shapes_run, tmp_path) -> Path:
    """A copy of a trained run with a reference to its data."""
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run" / "data" / "reference.json").write_text(json.dumps({"run": str(shapes_run)}))
    return tmp_path / "run"


@pytest.fixture
def draw(sslkit, run):
    """Words -> results of `attn-viz` on the run."""

    def call(*words: object, count: int = 2) -> dict:
        code, out, err = sslkit("attn-viz", run, "--count", count, "--json", "--force", *FAST, *words)
        assert code == 0, err
        return json.loads(out)

    return call


def reader(encoder: Encoder, rollout: bool = False) -> AttentionReader:
    return AttentionReader(FrozenEncoder(encoder, 32, torch.device("cpu"), "fp32"), rollout=rollout)


def arrays(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "attention" / "maps.npz") as found:
        return dict(found)


def images(run: Path, count: int = 2) -> list[torch.Tensor]:
    from stages.inputs.images import val_images

    return [image for _, image in val_images(Run(run), count)]


def test_maps_of_layers_and_queries_are_the_encoders_attention(draw, run):
    results = draw("--layers", "all", "--query", "cls", "--query", "1,0.3")
    found = arrays(run)
    assert found["layers"].tolist() == [1, 1, 2, 2]
    assert found["queries"].tolist() == ["CLS", "patch at 1, 0.3"] * 2
    encoder = load_encoder(Run(run).encoder, Run(run).encoder_info)
    for number, image in enumerate(images(run)):
        pixels = reader(encoder).resize(image)[None] / 255
        pixels = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        with torch.no_grad():
            cls = attention_maps(encoder, pixels, [1, 2])[0].view(2, 3, 4, 4)
            patch = attention_maps(encoder, pixels, [1, 2], 7)[0].view(2, 3, 4, 4)  # row 1 of 4, the last column
        expected = torch.stack([cls[0], patch[0], cls[1], patch[1]])
        np.testing.assert_allclose(found["layer_map"][number], expected, atol=1e-6)
        np.testing.assert_allclose(found["maps"][number], cls[1], atol=1e-6)  # in full: the last layer, first query
    assert "layer 1, patch at 1, 0.3, head 3, max" in Path(results["page"]).read_text()


def test_one_layer_from_one_patch_is_drawn_in_full(draw, run):
    results = draw("--layers", "1", "--query", "0,0", "--masks")
    page = Path(results["page"]).read_text()
    assert "mean of the heads, layer 1 of 2, from patch at 0, 0" in page
    assert "A frame marks the query patch" in page
    assert "layers" not in arrays(run)


def test_rollout_is_written_and_drawn(draw, run):
    results = draw("--rollout", count=1)
    encoder, (image,) = load_encoder(Run(run).encoder, Run(run).encoder_info), images(run, 1)
    own = reader(encoder, rollout=True)
    seen = own.read(own.resize(image))
    assert [each.layer for each in seen] == [2, None]
    np.testing.assert_allclose(arrays(run)["rollout"][0, 0], seen[1].maps[0], atol=1e-6)
    assert "rollout through 2 layers" in Path(results["page"]).read_text()


def test_the_timeline_shows_the_mean_and_masks_of_each_kept_encoder(draw, run):
    kept = Run(run).kept_encoders()
    assert len(kept) == 3
    results = draw("--timeline", "--masks")
    found = arrays(run)
    assert found["epochs"].tolist() == [epochs for epochs, _ in kept]
    for number, image in enumerate(images(run)):
        for at, (_, path) in enumerate(kept):
            mean = reader(load_encoder(path, Run(run).encoder_info)).main_maps(image).mean(0)
            np.testing.assert_allclose(found["timeline"][number, at], mean, atol=1e-6)
    page = Path(results["page"]).read_text()
    assert page.count("hidden by AttMask (attention high) during training, epoch") == 2 * 3
    assert draw("--timeline", "--every", "2")["images"] == 2
    assert arrays(run)["epochs"].tolist() == [kept[0][0], kept[2][0]]  # counted back from the last
    assert "hidden by AttMask" not in Path(results["page"]).read_text()


def test_a_run_against_itself_has_no_divergence(draw, run):
    against = draw("--against", run)["against"]
    assert [(pair["head"], pair["other"]) for pair in against["heads"]] == [(1, 1), (2, 2), (3, 3)]
    assert all(pair["divergence"] == 0 and pair["high"] == 0 for pair in [against["mean"], *against["heads"]])
    assert against["unit"] == "bits"
    assert against["resampled"] is None


def test_another_run_with_another_grid(sslkit, draw, run, tmp_path):
    other = Run(tmp_path / "other")
    torch.manual_seed(1)
    spec = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=4, width=48, depth=3, heads=4)
    save_encoder(Encoder(spec), other.encoder, other.encoder_info, "teacher")
    results = draw("--against", other.path)
    against = results["against"]
    assert against["resampled"] == "4 x 4 and 8 x 8 patches to 4 x 4"
    assert len(against["heads"]) == 3
    assert against["mean"]["low"] <= against["mean"]["divergence"] <= against["mean"]["high"]
    assert arrays(run)["against_map"].shape == (2, 4, 8, 8)
    page = Path(results["page"]).read_text()
    assert "matched heads: this encoder on the left, other on the right" in page
    assert "1 head of the encoder with more heads found no partner" in page
    code, out, _ = sslkit("attn-viz", run, "--count", 2, "--against", other.path, *FAST)
    assert code == 0
    assert "averaged to one grid: 4 x 4 and 8 x 8 patches to 4 x 4" in out
    # Its weights are an input: other weights are refused.
    save_encoder(Encoder(spec), other.encoder, other.encoder_info, "teacher")
    code, _, err = sslkit("attn-viz", run, "--count", 2, "--against", other.path, *FAST)
    assert code == 1
    assert "the input against weights changed" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--layers", "0"], 2, "--layers 0: vit_tiny_patch16_224 has layers 1 to 2, not 0"),
        (["--layers", "1,99"], 2, "has layers 1 to 2, not 99"),
        (["--layers", "first"], 2, "--layers first: must be numbers such as 1,6,12, or all"),
        (["--query", "1.5,0"], 2, "--query 1.5,0: must be cls, or shares of width and height from 0 to 1"),
        (["--query", "nan,0"], 2, "--query nan,0: must be cls, or shares"),
        (["--query", "corner"], 2, "--query corner: must be cls, or shares"),
        (["--every", "2"], 2, "--every requires --timeline"),
        (["--timeline", "--weights", "random"], 2, "--timeline shows the run's own training"),
        (["--against", "/nowhere"], 1, "--against: no run directory at /nowhere: name a pretrained run"),
        (["--layers", "1", "--weights", "random", "--arch", "resnet10t"], 1, "resnet10t is not a ViT"),
    ],
)
def test_mistakes_are_reported_before_anything_is_deleted(sslkit, run, words, code, message):
    (run / "attention").mkdir()
    (run / "attention" / "mine.txt").write_text("kept")
    found, _, err = sslkit("attn-viz", run, "--force", *words)
    assert found == code
    assert message in err
    assert err.count("\n") == 1
    assert (run / "attention" / "mine.txt").exists()


def test_the_message_for_a_baseline_names_the_run_for_like(sslkit, run, tmp_path, monkeypatch):
    baseline = Run(tmp_path / "random")
    spec = {**json.loads(Run(run).encoder_info.read_text())["spec"], "drop_path": 0.0}
    config = {"weights": "random", "encoder": spec, "seed": 3}
    write_json(baseline.features / "stage.json", {"status": "done", "config": config, "inputs": {}})
    write_json(baseline.own_data / "reference.json", {"run": "../run"})
    monkeypatch.chdir(tmp_path)
    code, _, err = sslkit("attn-viz", "random")
    assert code == 1
    assert err.rstrip().endswith("--weights random --like run --seed 3")
    # A run with other encoders on the same data is not named.
    config |= {"encoder": {**spec, "depth": 9}}
    write_json(baseline.features / "stage.json", {"status": "done", "config": config, "inputs": {}})
    assert "--like A_PRETRAINED_RUN" in sslkit("attn-viz", "random")[2]


def test_the_message_for_a_run_without_kept_encoders_names_the_option(sslkit, run):
    shutil.rmtree(run / "pretrain" / "kept")
    code, _, err = sslkit("attn-viz", run, "--timeline")
    assert code == 1
    assert "kept no encoders" in err
    assert "--keep-every EPOCHS" in err


def test_a_layer_that_only_the_other_encoder_lacks(sslkit, run, tmp_path):
    other = Run(tmp_path / "other")
    spec = EncoderSpec("vit_tiny_patch16_224", image_size=32, patch_size=8, width=24, depth=1, heads=3)
    save_encoder(Encoder(spec), other.encoder, other.encoder_info, "teacher")
    code, _, err = sslkit("attn-viz", run, "--layers", "2", "--against", other.path)
    assert code == 2
    assert "the encoder of --against has only 1" in err


def test_results_on_photos_are_kept_next_to_those_on_val(sslkit, draw, run, tmp_path):
    from PIL import Image

    of_val = draw(count=1)["page"]
    (tmp_path / "my photos").mkdir()
    Image.effect_noise((48, 48), 80).convert("RGB").save(tmp_path / "my photos" / "a.png")
    os.mkfifo(tmp_path / "my photos" / "b.png")
    words = ["attn-viz", run, "--images", tmp_path / "my photos", *FAST]
    code, out, err = sslkit(*words)
    assert code == 0, err
    assert "1 left out, being no file that can be read: b.png (a FIFO)" in err
    page = run / "attention-my-photos" / "index.html"
    assert str(page) in out
    assert "<title>run: attention, my photos · sslkit</title>" in page.read_text()
    assert "<title>run: attention · sslkit</title>" in Path(of_val).read_text()
    assert Run(run).stages()[-2:] == ["attn-viz", "attn-viz:my-photos"]
    assert "up to date" in sslkit(*words)[2]
    assert "up to date" in sslkit("attn-viz", run, "--count", 1, *FAST)[2]


def test_a_model_without_cls_shows_what_patches_attend_to(sslkit, tmp_path):
    from PIL import Image

    path = tmp_path / "photo.png"
    Image.effect_noise((48, 48), 80).convert("RGB").save(path)
    assert decode(path.read_bytes()).shape == (3, 48, 48)
    words = [
        "attn-viz",
        tmp_path / "r",
        "--images",
        path,
        "--weights",
        "random",
        "--arch",
        "vit_wee_patch16_reg1_gap_256",
    ]
    code, _, err = sslkit(*words, "--image-size", 32, *FAST)
    assert code == 1
    assert "has no CLS token" in err
    assert "--query 0.5,0.5" in err
    code, out, _ = sslkit(*words, "--image-size", 32, "--query", "0.5,0.5", *FAST)
    assert code == 0
    assert "1 image," in out
    code, _, err = sslkit(*words, "--image-size", 32, "--query", "0.5,0.5", "--masks", "--force", *FAST)
    assert code == 1
    assert "no CLS token" in err
    assert "--masks" in err


def test_the_results_name_pictures_for_a_report(draw, run):
    pictures = draw(count=8)["pictures"]
    assert len(pictures) == 6
    assert all((run / "attention" / picture["file"]).is_file() for picture in pictures)
    assert "of 4 x 4 patches (uniform: 6.2 %)" in pictures[0]["alt"]


def test_the_page_states_true_sizes_and_links_to_the_first_timeline(draw):
    page = Path(draw("--timeline")["page"]).read_text().replace("\u00a0", " ")
    # The encoder of `trained_run`, which timm's name would make 192 wide, of 16 px patches and for 224 px.
    assert "<h1>Attention of vit_tiny_patch16_224: 24 wide, 2 blocks, patch 8, 32 px</h1>" in page
    link = page.index('<a href="#timeline-0">The timeline, attention during training from epoch')
    assert link < page.index("<section>")
    assert page.count('id="timeline-0"') == 1
    assert page.count('id="timeline-1"') == 1
    assert "#timeline" not in Path(draw()["page"]).read_text()
