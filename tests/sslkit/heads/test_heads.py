"""Every kind of head: the conformance all must meet, and what each promises by itself."""

import pytest
import torch

from sslkit import registry
from sslkit.heads.base import Head, build
from sslkit.heads.dino import PrototypeHead
from sslkit.heads.projector import Projector
from sslkit.recipe.schema import Recipe, validated
from sslkit.recipe.sections import HeadSection
from sslkit.schedules import Moment

KINDS = registry.names("sslkit.heads")
WIDTH = 24


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def section(kind: str) -> HeadSection:
    return validated(Recipe, {"heads": {"h": {"kind": kind, "out": 16, "hidden": 32}}}).heads["h"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_does_what_its_section_says(kind):
    config = section(kind)
    head: Head = build(WIDTH, {"h": config})["h"]
    assert config.kind == kind
    output = head(torch.randn(2, 6, WIDTH))
    assert output.embedding.shape == (2, 6, config.embedding)
    if config.prototypes is None:
        assert output.logits is None
        assert head.last_layer() == []
        with pytest.raises(NotImplementedError, match="has no prototypes"):
            head.logits(output.embedding)
    else:
        assert output.scores.shape == (2, 6, config.prototypes)
        assert output.scores.dtype == torch.float32
        rows = output.embedding.flatten(0, 1)
        torch.testing.assert_close(head.mean_logits(rows), head.logits(rows).mean(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_says_whether_it_couples_the_batch(kind):
    config = section(kind)
    head: Head = build(WIDTH, {"h": config})["h"]
    tokens = torch.randn(8, WIDTH)
    alone, together = head.embed(tokens[:4]), head.embed(tokens)[:4]
    assert torch.allclose(alone, together, atol=1e-5) == (not config.couples_batch)


def test_heads_that_are_not_shared_share_the_mlp():
    lender = PrototypeHead.Config(out=16, hidden=32, bottleneck=8)
    built = build(WIDTH, {"b": PrototypeHead.Config(out=8, trunk="a"), "a": lender})
    a, b = built["a"], built["b"]
    assert isinstance(a, PrototypeHead)
    assert isinstance(b, PrototypeHead)
    assert b.mlp is a.mlp
    assert b.prototypes.shape == (8, 8)


@pytest.mark.parametrize(("norm", "learned"), [("fixed", False), ("free", True)])
def test_prototype_scores_are_cosines_times_a_learned_length(norm, learned):
    head = PrototypeHead(WIDTH, PrototypeHead.Config(out=16, hidden=32, bottleneck=8, norm=norm))
    embedding = head.embed(torch.randn(5, WIDTH))
    assert head.logits(embedding).abs().max() <= 1 + 1e-6
    assert (head.length is not None) == learned
    torch.testing.assert_close(head.logits(embedding), head.logits(3 * embedding))


def test_the_last_layer_is_frozen_at_first():
    head = PrototypeHead(WIDTH, PrototypeHead.Config(out=16, hidden=32, bottleneck=8, norm="free", frozen=2))
    last = {id(head.prototypes), id(head.length)}
    assert {id(p) for p in head.frozen_parameters(Moment(19, 10, 10))} == last
    assert head.frozen_parameters(Moment(20, 10, 10)) == []


def test_a_projector_without_batch_norm_is_a_plain_mlp():
    config = Projector.Config(out=6, hidden=8, layers=2, batch_norm=False)
    head = Projector(WIDTH, config)
    first, _, last = head.mlp
    tokens = torch.randn(3, WIDTH)
    torch.testing.assert_close(head.embed(tokens), last(torch.nn.functional.gelu(first(tokens))))


def test_a_prototype_head_with_batch_norm_couples_the_batch_and_says_so():
    config = PrototypeHead.Config(out=16, hidden=32, bottleneck=8, batch_norm=True)
    head = PrototypeHead(WIDTH, config)
    tokens = torch.randn(8, WIDTH)
    assert config.couples_batch
    assert not torch.allclose(head.embed(tokens[:4]), head.embed(tokens)[:4], atol=1e-3)
    # As the authors build it: Linear, BatchNorm, GELU.
    assert [type(module).__name__ for module in head.mlp[:3]] == ["Linear", "BatchNorm", "GELU"]


@pytest.mark.parametrize("padding", [0, 3])
def test_padding_does_not_count_in_batch_norm(padding):
    head = PrototypeHead(WIDTH, PrototypeHead.Config(out=16, hidden=32, bottleneck=8, batch_norm=True))
    tokens = torch.randn(5, WIDTH)
    padded = torch.cat([tokens, 9 * torch.ones(padding, WIDTH)])
    torch.testing.assert_close(head.embed(padded, 5)[:5], head.embed(tokens))
    # A step may hide nothing at all.
    nothing = head.embed(padded, 0)
    nothing[:0].sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in head.parameters())
