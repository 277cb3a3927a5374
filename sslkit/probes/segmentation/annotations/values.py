"""Which values of a set of masks are classes, which is the background, and which are void: by option or convention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sslkit.errors import SslkitError, UsageError, did_you_mean, named
from sslkit.probes.segmentation.annotations.colour_table import ColourTable, tables_near
from sslkit.probes.segmentation.annotations.encodings.base import UNKNOWN
from sslkit.probes.segmentation.annotations.layouts.base import Meaning
from sslkit.probes.segmentation.annotations.likely_void import likely_void
from sslkit.probes.segmentation.annotations.mask_files import MaskReader, brightness

NOTHING = "none"
SOFT, MANY = 0.9, 32  # share of nearly black and white pixels, and values, of a binary mask with blurred edges


@dataclass(frozen=True)
class MaskOptions:
    """What was said about the values of masks.

    Attributes:
        binary: masks are binary whatever values they hold: pixels above half of the brightest are the object. For
            masks that were saved as JPEG.
        void: values or names of classes that are never counted, separated by commas, or ``none``.
        background: the value or name of the class that is no object, or ``none``.
        table: the colours of the classes.
    """

    binary: bool = False
    void: str | None = None
    background: str | None = None
    table: ColourTable | None = None


@dataclass(frozen=True)
class MaskValues:
    """The classes of a set of masks."""

    values: np.ndarray  # (K,) the mask value of each class, ascending
    classes: Sequence[str]  # K names
    objects: Sequence[int]  # the classes that are objects
    binary: bool  # masks only separate object from background
    void: frozenset[int]  # values that are never counted
    cut: int | None = None  # with ``binary`` as option, pixels above this value are the object
    took: Sequence[str] = field(default_factory=tuple)  # how the values were understood
    remarks: Sequence[str] = field(default_factory=tuple)  # what may have to be said otherwise

    def labels(self, pixels: np.ndarray) -> np.ndarray:
        """Values -> classes, ``UNKNOWN`` for all that is no class: int64 (H, W) both."""
        place = np.searchsorted(self.values, pixels).clip(max=len(self.values) - 1)
        return np.where(self.values[place] == pixels, place, UNKNOWN)


def choose_values(
    reader: MaskReader, meaning: Meaning | None, options: MaskOptions, masks: Sequence[Path]
) -> MaskValues:
    """Decide on the classes of a set of masks.

    Raises:
        UsageError: an option names a class that there is not.
        SslkitError: no mask has an object.
    """
    if options.binary:
        return _cut(reader)
    if meaning and meaning.single:
        void = frozenset(reader.counts) & (meaning.void or frozenset())
        return MaskValues(
            np.array([0, 1]), ["background", "object"], [1], True, void, took=[f"values: {meaning.source}"]
        )
    encoding, where = reader.encoding, masks[0].parent
    names = {**encoding.classes, **(meaning.classes if meaning else {})}
    if options.table and not reader.colour:
        names = dict(enumerate(options.table.names))
    typed = None if options.void is None else _typed("--void", options.void, names)
    usual = encoding.void if meaning is None or meaning.void is None else meaning.void
    void = frozenset(value for value in reader.counts if value in (usual if typed is None else typed) or value < 0)
    took = [f"values: {meaning.source}"] if meaning else []
    if absent := sorted((typed or frozenset()) - reader.counts.keys()):
        took.append(f"no mask holds {', '.join(map(str, absent))}, given by --void")

    # Two values, one of them 0, are an object and its background; 255 is void by convention only among others.
    present = np.array(sorted(value for value in reader.counts if value >= 0 and not (typed and value in typed)))
    nameless = not names or (reader.colour and encoding.seen.table is None)
    if nameless and options.background is None and 0 < len(present) <= 2 and (present[0] == 0 or len(present) == 1):
        if not present.any():
            raise SslkitError(f"no mask in {where} has an object: every pixel is 0 or void")
        ignored = void if typed else frozenset(value for value in void if value < 0)
        return MaskValues(np.array([0, present.max()]), ["background", "object"], [1], True, ignored, took=took)

    took += [encoding.took] if encoding.took else []
    known = present[~np.isin(present, list(void))]
    background = meaning.background if meaning else encoding.background
    if options.background is not None:
        background = next(iter(_typed("--background", options.background, names)), None)
    objects = np.flatnonzero(known != (UNKNOWN if background is None else background)).tolist()
    if not objects:
        raise SslkitError(f"no mask in {where} has an object: every pixel is background or void")
    remarks = [
        *_about_void(reader, void, names, typed is not None),
        *(_about_names(masks, known) if not names else ()),
        *_about_background(background, known, options.background is not None),
        *(_about_soft_edges(reader) or _about_borders(reader, masks, void, background, names)),
    ]
    classes = [names.get(value) or str(value) for value in known.tolist()]
    return MaskValues(known, classes, objects, False, void, None, took, remarks)


def _cut(reader: MaskReader) -> MaskValues:
    pixels = reader.encoding.seen.colours
    brightest = int((brightness(pixels) if reader.colour else pixels).max())
    if not brightest:
        raise SslkitError("no mask has an object: every pixel is 0")
    return MaskValues(np.array([0, brightest]), ["background", "object"], [1], True, frozenset(), brightest // 2)


def _typed(option: str, text: str, names: Mapping[int, str]) -> frozenset[int]:
    """The values that an option names."""
    if text.strip().lower() == NOTHING:
        return frozenset()
    numbers = {name.lower(): value for value, name in names.items() if name}
    found = set[int]()
    for word in filter(None, map(str.strip, text.split(","))):
        if word.lstrip("-").isdigit():
            found.add(int(word))
        elif word.lower() in numbers:
            found.add(numbers[word.lower()])
        else:
            hint = f": {did_you_mean(word.lower(), list(numbers))}" if numbers else ""
            raise UsageError(f"{option} {word} is neither a value nor a class of these masks{hint}")
    return frozenset(found)


def _about_void(reader: MaskReader, void: frozenset[int], names: Mapping[int, str], typed: bool) -> list[str]:
    """What is not counted, and by whose word."""
    total = sum(reader.counts.values())
    lines = []
    if unknown := reader.counts.get(UNKNOWN, 0):
        where = f"; not in {reader.encoding.seen.table.source}" if reader.encoding.seen.table else ""
        lines.append(f"{_share(unknown, total)} of the pixels stand for no class and are not counted{where}")
    ours = sorted(value for value in void if value >= 0)
    if ours and not typed:
        pixels = sum(reader.counts[value] for value in ours)
        words = named([_called(value, names) for value in ours], 4)
        lines.append(f"void, never counted: {words} ({_share(pixels, total)} of the pixels); --void none counts all")
    return lines


def _about_names(masks: Sequence[Path], known: np.ndarray) -> list[str]:
    """A table near the masks may name their values; whether its rows count as they do is for the user to say."""
    for path, table in tables_near(masks[0].parent):
        if len(table.names) > known.max():
            return [f"{path} may name the classes, in the order of its {len(table.names)} lines: --palette {path}"]
    return []


def _about_background(background: int | None, known: np.ndarray, typed: bool) -> list[str]:
    if typed or background is None or background in known:
        return []
    return [
        f"no mask holds the background, {background}: each of the values {named([str(v) for v in known], 4)} is an "
        "object; --background VALUE names one that is not"
    ]


def _about_borders(
    reader: MaskReader, masks: Sequence[Path], void: frozenset[int], background: int | None, names: Mapping[int, str]
) -> list[str]:
    """The question that only the user can answer, with the option to type."""
    known = void | {UNKNOWN} | ({background} if background is not None else set())
    lines = []
    for value, share in likely_void((reader.read(path) for path in masks), known).items():
        typed = ",".join(map(str, sorted(v for v in {value, *void} if v >= 0)))
        lines.append(
            f"is {_called(value, names)} void? It is thin borders between other classes, {100 * share:.1f} % of the "
            f"pixels, and counted as a class; --void {typed} leaves it out"
        )
    return lines


def _about_soft_edges(reader: MaskReader) -> list[str]:
    """Binary masks that were blurred or saved as JPEG have a class for every shade."""
    total, values = sum(reader.counts.values()), [value for value in reader.counts if value >= 0]
    brightest = max(values)
    ends = sum(n for value, n in reader.counts.items() if value < brightest / 10 or value > 0.9 * brightest)
    if reader.colour or len(values) <= MANY or ends < SOFT * total:
        return []
    return [f"{len(values)} values, most of them rare: if these are binary masks with soft edges, add --binary"]


def _called(value: int, names: Mapping[int, str]) -> str:
    name = names.get(value)
    return f"{name} ({value})" if name and not name.startswith("#") else f"value {value}"


def _share(pixels: int, total: int) -> str:
    return f"{100 * pixels / total:.1f} %"
