"""Joint embedding: views of one image through a student and usually its moving average, under weighted objectives.

    views -> teacher(global crops) -> masks(teacher's attention) -> student(masked global and local crops) -> losses

DINO (arXiv:2104.14294), iBOT (arXiv:2111.07832) and AttMask (arXiv:2203.12719) are recipes over this file.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from sslkit import ema, registry
from sslkit.data.batch import Batch
from sslkit.encoder.encoder import Encoder, Tokens
from sslkit.errors import UsageError
from sslkit.heads.base import HeadDict
from sslkit.heads.base import build as build_heads
from sslkit.masks.base import Masking, Masks
from sslkit.methods.base import (
    DataFacts,
    Losses,
    Method,
    Preview,
    augmented,
    drop_scales,
    feature_std,
    masked_on_object,
)
from sslkit.objectives.base import BranchOutput, Objective, PatchOutput, Scene
from sslkit.recipe.schema import Recipe
from sslkit.schedules import Moment


class Branch(nn.Module):
    """The student, or the teacher that follows it: an encoder and its heads."""

    def __init__(self, encoder: Encoder, heads: HeadDict):
        super().__init__()
        self.encoder, self.heads = encoder, heads

    def output(
        self, tokens: Tokens, cls: Tensor, views: int, heads: Iterable[str], hidden: Mapping[str, PatchOutput]
    ) -> BranchOutput:
        """What the branch made of its views, with the heads on CLS.

        Args:
            tokens: of the G x B global crops.
            cls: (V x B, D) of all crops.
            views: G.
            heads: names of those that are applied to CLS.
            hidden: of ``BranchOutput``.
        """
        fold = (-1, len(tokens.cls) // views)  # (V x B, ...) -> (V, B, ...)
        cls = cls.unflatten(0, fold)
        return BranchOutput(
            cls=cls,
            patches=None if tokens.patches is None else tokens.patches.unflatten(0, fold),
            attention=None if tokens.attention is None else tokens.attention.unflatten(0, fold),
            heads={name: self.heads[name](cls) for name in heads},
            hidden=hidden,
            modules={name: self.heads[name] for name in self.heads},
        )


class JointEmbedding(Method):
    """Student, optional teacher, optional masks, any weighted set of objectives."""

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None):
        super().__init__(recipe, facts)
        assert recipe.mask is None or isinstance(recipe.mask, Masking)
        self.masking = recipe.mask
        encoder = Encoder.from_section(recipe.encoder, recipe.views)
        self.student = Branch(encoder, build_heads(encoder.width, recipe.heads))
        built: dict[str, Objective] = {}
        for name, config in recipe.objectives.items():
            kind: type[Objective] = registry.load("sslkit.objectives", name)
            built[name] = kind(config, recipe.heads.get(config.head or ""))
        self.objectives = nn.ModuleDict(built)
        self._check()
        # What no objective reaches must not require a gradient: data parallelism would wait for it.
        if encoder.vit and self.masking is None:
            encoder.mask_token.requires_grad_(False)
        self._freeze_unread_heads()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False) if recipe.teacher else None
        self.average = self.teacher and ema.MovingAverage(self.teacher, self.student)

    def forward(self, batch: Batch, at: Moment) -> Losses:
        """One step of the method, up to the loss."""
        views = augmented(batch)
        teacher_tokens = self._teacher_tokens(views[0])
        masks = self._draw_masks(batch, teacher_tokens, at)
        teacher = self._teacher_branch(teacher_tokens, masks, len(batch.crops[0]))
        student = self._student_branch(views, masks, batch, at)
        scene = Scene(student, teacher, masks, at, len(views[0]))
        terms = {name: objective(scene) for name, objective in self.objectives.items()}

        weighted = {name: term.loss * self.recipe.objectives[name].weight for name, term in terms.items()}
        loss = torch.stack(list(weighted.values())).sum()
        metrics = {"loss": loss.detach(), "feature_std": feature_std(student.cls[0])}
        metrics |= masked_on_object(masks, self._objects(batch))
        for name, term in terms.items():
            metrics |= {f"{name}/{key}": value for key, value in {"loss": term.loss.detach(), **term.metrics}.items()}
        statistics = {f"{name}/{key}": value for name, term in terms.items() for key, value in term.statistics.items()}
        return Losses(loss, metrics, statistics, weighted)

    @torch.no_grad()
    def after_step(self, statistics: Mapping[str, Tensor], at: Moment) -> None:
        """Move the objectives' state, then the teacher."""
        for name, objective in self._objectives().items():
            mine = {key.split("/", 1)[1]: value for key, value in statistics.items() if key.startswith(f"{name}/")}
            objective.after_step(mine)
        if self.average is not None and self.recipe.teacher:
            self.average.follow(self.recipe.teacher.momentum, at)

    def frozen_parameters(self, at: Moment) -> Iterable[nn.Parameter]:
        """Last layers of heads in their first epochs."""
        return [p for name in self.student.heads for p in self.student.heads[name].frozen_parameters(at)]

    def preview(self, batch: Batch, at: Moment) -> Preview:
        """Augmented views, and the masks of the global ones."""
        views = augmented(batch)
        masks = self._draw_masks(batch, self._teacher_tokens(views[0]), at)
        pictures: dict[str, Tensor] = dict(zip(("global", "local"), views, strict=False))
        return Preview(pictures, None if masks is None else masks.mask.unflatten(0, views[0].shape[:2]))

    def exported(self) -> tuple[Encoder, Literal["student", "teacher"]]:
        """The teacher's encoder, the better of the two (arXiv:2104.14294, section 5.2)."""
        if self.teacher is not None:
            return self.teacher.encoder, "teacher"
        return self.student.encoder, "student"

    # The three parts of a step.

    @torch.no_grad()
    def _teacher_tokens(self, crops: Tensor) -> Tokens | None:
        """(G, B, 3, S, S) unmasked -> tokens of G x B crops; train mode and no drop path."""
        if self.teacher is None:
            return None
        attention = self._reads_teacher_attention()
        return self.teacher.encoder(crops.flatten(0, 1), attention=attention, patches=self._reads_patches())

    def _draw_masks(self, batch: Batch, teacher: Tokens | None, at: Moment) -> Masks | None:
        if self.masking is None:
            return None
        crops, attention = batch.crops[0], None
        if self.masking.needs_attention and teacher is not None and teacher.attention is not None:
            attention = teacher.attention.mean(1)
        grid, seed = self.student.encoder.grid(*crops.shape[-2:]), self.recipe.train.seed
        samples, objects = batch.samples.numpy(), self._objects(batch)
        return self.masking.draw(seed, at.step, samples, len(crops), grid, attention, objects).to(crops.device)

    def _objects(self, batch: Batch) -> Tensor | None:
        """(G x B, N) the share of each patch of the global crops that the object covers."""
        return None if self.masking is None else batch.coverage(self.student.encoder.patch_size)

    @torch.no_grad()
    def _teacher_branch(self, tokens: Tokens | None, masks: Masks | None, views: int) -> BranchOutput | None:
        if tokens is None or self.teacher is None:
            return None
        hidden = {}
        if masks is not None and tokens.patches is not None:
            for name in self._heads_reading("hidden"):
                head = self.teacher.heads[name]
                embedding = head.embed(tokens.patches.flatten(0, 1))
                logits = head.logits(embedding[masks.padded_index])[: len(masks.index)]
                hidden[name] = PatchOutput(logits, head.mean_logits(embedding))
        return self.teacher.output(tokens, tokens.cls, views, self._heads_reading("cls"), hidden)

    def _student_branch(self, views: list[Tensor], masks: Masks | None, batch: Batch, at: Moment) -> BranchOutput:
        encoder, reads = self.student.encoder, any(o.reads_attention for o in self._objectives().values())
        groups = []
        for group, crops in enumerate(views):
            mask = masks.mask if masks is not None and group == 0 else None
            drop = drop_scales(encoder, batch, len(crops), at, self.recipe.train.seed, group)
            attention, patches = (group == 0 and needed for needed in (reads, self._reads_patches()))
            groups.append(encoder(crops.flatten(0, 1), mask, attention=attention, drop=drop, patches=patches))
        tokens, hidden = groups[0], {}
        if masks is not None and tokens.patches is not None:
            picked = tokens.patches.flatten(0, 1)[masks.padded_index]
            for name in self._heads_reading("hidden"):
                head, real = self.student.heads[name], len(masks.index)
                hidden[name] = PatchOutput(head.logits(head.embed(picked, real))[:real])
        cls = torch.cat([g.cls for g in groups])
        return self.student.output(tokens, cls, len(views[0]), self._heads_reading("cls"), hidden)

    def _reads_teacher_attention(self) -> bool:
        masks_need_it = self.masking is not None and self.masking.needs_attention
        return masks_need_it or any(o.reads_attention or o.reads_teacher_attention for o in self._objectives().values())

    def _reads_patches(self) -> bool:
        return any(o.reads_hidden or o.reads_patches for o in self._objectives().values())

    def _heads_reading(self, what: Literal["cls", "hidden"]) -> list[str]:
        wanted = {o.head for o in self._objectives().values() if (o.reads_cls if what == "cls" else o.reads_hidden)}
        return sorted(wanted - {""})

    def _objectives(self) -> dict[str, Objective]:
        return {name: o for name, o in self.objectives.items() if isinstance(o, Objective)}

    def _freeze_unread_heads(self) -> None:
        heads, objectives = self.student.heads.requires_grad_(False), self._objectives().values()
        readers = [o for o in objectives if o.reads_cls or o.reads_hidden or o.reads_patches]
        # All are frozen first: a head that is read may share its MLP with one that is not.
        for name in {o.head for o in readers} & set(self.recipe.heads):
            heads[name].requires_grad_(True)
            if not any(o.reads_scores for o in readers if o.head == name):
                for parameter in heads[name].last_layer():
                    parameter.requires_grad_(False)

    def _check(self) -> None:
        """Contradictions, before any data is read."""
        recipe, encoder = self.recipe, self.student.encoder
        if not self.objectives:
            names = ", ".join(registry.names("sslkit.objectives"))
            raise UsageError(
                f"the recipe has no objectives: add a method's recipe (--recipe dino), or name some of {names}"
            )
        for name, objective in self._objectives().items():
            if objective.needs_teacher and recipe.teacher is None:
                raise UsageError(f"objective {name} needs a teacher: add `teacher: {{momentum: [0.996, 1.0]}}`")
            if objective.reads_hidden and recipe.mask is None:
                raise UsageError(f"objective {name} needs a mask, such as --set mask.strategy=random")
            if objective.couples_batch and recipe.train.accumulate > 1:
                raise UsageError(f"objective {name} looks across the batch: train.accumulate must be 1")
            needs_patches = objective.reads_hidden or objective.reads_patches or objective.reads_attention
            if needs_patches and not encoder.vit:
                raise UsageError(
                    f"objective {name} needs patch tokens, which {recipe.encoder.arch} does not have: choose a ViT, or "
                    f"--set objectives.{name}=null"
                )
            section = recipe.heads.get(objective.head)
            if objective.reads_hidden and (section is None or section.prototypes is None):
                raise UsageError(f"objective {name} needs prototypes, which heads.{objective.head} does not have")
            if section is not None and section.couples_batch and recipe.train.accumulate > 1:
                raise UsageError(
                    f"heads.{objective.head} looks across the batch by its BatchNorm: set train.accumulate=1, or "
                    f"heads.{objective.head}.batch_norm=false"
                )
        if self._reads_teacher_attention() and encoder.vit and not encoder.has_cls:
            raise UsageError(f"{recipe.encoder.arch} has no CLS token: its attention cannot be read")
        if self.masking is not None:
            self._check_masking(self.masking)

    def _check_masking(self, masking: Masking) -> None:
        recipe, encoder = self.recipe, self.student.encoder
        if not encoder.vit:
            raise UsageError(
                f"masks need patch tokens, which {recipe.encoder.arch} does not have: choose a ViT, or --set mask=null"
            )
        if masking.needs_attention and recipe.teacher is None:
            raise UsageError(f"mask.strategy {masking.strategy} needs a teacher's attention: add a teacher")
        size = recipe.views.global_.size or recipe.encoder.image_size
        rows, columns = encoder.grid(size, size)
        masking.check(rows * columns)
