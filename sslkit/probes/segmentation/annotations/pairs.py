"""Which mask belongs to which photo, by their names.

Two names agree if they are equal once each kind of file has lost what all its files begin and end with, such as
``_leftImg8bit`` and ``_gtFine_labelIds``. No list of such endings is kept: those that pair the most files are found
from the names themselves.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sslkit.data.prepare.formats import advice, kinds, readable, what_is_there
from sslkit.errors import SslkitError, number_of
from sslkit.files import special_files

SAMPLE = 30  # masks whose names suggest how they are paired
AVOIDED = ("color", "colour", "instance", "overlay", "vis", "viz", "blend")  # made from labels, or for another task
MEANT = ("mask", "label", "seg", "annot", "gt", "truth")
MOST_PHOTOS = 0.9  # that must have the same ending, where masks have another one instead of one more
LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".heic", ".avif"}


@dataclass(frozen=True, order=True)
class Naming:
    """How the files of one kind are named: what comes before and after the part that a photo and its mask share."""

    before: str = ""
    after: str = ""

    def core(self, stem: str) -> str | None:
        """The part between; None for a file that is named otherwise."""
        if len(stem) <= len(self.before) + len(self.after) or not stem.startswith(self.before):
            return None
        return stem[len(self.before) : len(stem) - len(self.after)] if stem.endswith(self.after) else None

    def __str__(self) -> str:
        return f"{self.before}NAME{self.after}"


@dataclass(frozen=True)
class Pairs:
    """Photos and masks by the photo's name: its path below the folder, without suffix."""

    photos: Mapping[str, Path]
    masks: Mapping[str, Path]
    took: str = ""  # how the names agree, where they are not equal
    others: Sequence[str] = field(default_factory=tuple)  # remarks on other files
    strays: Sequence[str] = field(default_factory=tuple)  # masks without a photo, by their paths below the folder


def pair(images: Path, masks: Path, options: tuple[str, str] = ("--images", "--masks")) -> Pairs:
    """Pair the photos of one folder with the masks of another, or of the same; both are searched recursively.

    Raises:
        SslkitError: a folder without images, no pair, or two photos or masks with one name.
    """
    photos, drawn = image_files(images, options[0]), image_files(masks, options[1])
    together = images.resolve() == masks.resolve()
    left = [] if together else left_out(images, photos)
    left += left_out(masks, drawn)
    if together:
        photos, drawn = _by_format(photos, drawn)
    else:
        photos, drawn = _outside(photos, images, masks), _outside(drawn, masks, images)
    for same_folders in (True, False):
        found, wanted = (_Names(files, root, same_folders) for files, root in ((photos, images), (drawn, masks)))
        rules = _rules(found, wanted)
        if together and photos == drawn:
            rules = [rule for rule in rules if rule[0] != rule[1]]
        counts = {rule: len(found.by_core(rule[0]).keys() & wanted.by_core(rule[1]).keys()) for rule in rules}
        counts = {rule: count for rule, count in counts.items() if _credible(rule, count, found, wanted)}
        if counts:
            best = max(counts, key=lambda rule: (counts[rule], *_preferred(rule)))
            others = [rule[1] for rule in counts if rule[0] == best[0] and rule != best]
            return _paired(found, wanted, best, others, left)
    raise SslkitError(
        f"no photo in {images} has a mask of the same name in {masks}: "
        f"their first files are {photos[0].name if photos else 'none'} and {drawn[0].name if drawn else 'none'}"
    )


def image_files(folder: Path, option: str) -> list[Path]:
    """The image files below a folder, sorted.

    Raises:
        SslkitError: it is no folder, or there are none.
    """
    if not folder.is_dir():
        raise SslkitError(f"{folder} is not a folder: {option} requires one")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("._"))
    suffixes = readable()
    if found := [path for path in files if path.suffix.lower() in suffixes]:
        return found
    raise SslkitError(f"No images found in {folder} ({what_is_there(path.name for path in files)})")


def left_out(folder: Path, images: Sequence[Path]) -> list[str]:
    """A remark on the files below a folder that are no images, by kind; none if there are none."""
    used = set(images)
    every = sorted(folder.rglob("*"))
    others = [path.name for path in every if path.is_file() and path not in used and path.name[0] != "."]
    found, odd = kinds(others), special_files(every)
    if not found:
        return odd
    counts = ", ".join(f"{count} {kind}" for kind, count in found.most_common())
    return ["; ".join([f"{number_of(len(others), 'file')} left out in {folder.name}: {counts}", *advice(found)]), *odd]


class _Names:
    """The names of the files of one folder."""

    def __init__(self, files: Sequence[Path], root: Path, same_folders: bool):
        self.files, self.root = files, root
        # A folder in front makes names of different folders differ; without, all names must be unique.
        self.folders = [path.relative_to(root).parent.as_posix() if same_folders else "" for path in files]
        self.stems = [path.stem for path in files]
        self._cores: dict[Naming, dict[tuple[str, str], Path]] = {}
        self.doubles: dict[Naming, tuple[Path, Path]] = {}

    def by_core(self, naming: Naming) -> dict[tuple[str, str], Path]:
        """Files by folder and shared part of the name; of two with the same the first, and the second in doubles."""
        if naming not in self._cores:
            cores = self._cores[naming] = {}
            for path, folder, stem in zip(self.files, self.folders, self.stems, strict=True):
                core = naming.core(stem)
                if core is not None and cores.setdefault((folder, core), path) is not path:
                    self.doubles.setdefault(naming, (cores[folder, core], path))
        return self._cores[naming]

    def name(self, path: Path) -> str:
        """The path below the folder, without suffix."""
        return str(path.relative_to(self.root).with_suffix(""))


Rule = tuple[Naming, Naming]  # of photos and of masks


def _rules(photos: _Names, masks: _Names) -> list[Rule]:
    """Ways in which a few masks and the photos with the most similar names agree; equal names come first."""
    same, found = (Naming(), Naming()), Counter[Rule]()
    step = max(1, len(masks.stems) // SAMPLE)
    within: dict[str, tuple[list[str], list[str]]] = {}
    by_folder: dict[str, list[str]] = {}
    for stem, folder in zip(photos.stems, photos.folders, strict=True):
        by_folder.setdefault(folder, []).append(stem)
    for folder, stems in by_folder.items():
        within[folder] = sorted(stems), sorted(stem[::-1] for stem in stems)
    for number in range(len(masks.stems)):
        # Neighbours too: files of several kinds for each photo follow each other.
        if number % step > 3 or masks.folders[number] not in within:
            continue
        forwards, backwards = within[masks.folders[number]]
        mask = masks.stems[number]
        found.update((Naming(after=one), Naming(after=other)) for one, other in _ends(forwards, mask))
        found.update((Naming(one[::-1]), Naming(other[::-1])) for one, other in _ends(backwards, mask[::-1]))
    del found[same]
    least = 2 if len(masks.stems) > SAMPLE else 1  # by chance two names are similar in some way or other
    return [same, *(rule for rule, count in found.items() if count >= least)]


def _ends(photos: Sequence[str], mask: str) -> Iterator[tuple[str, str]]:
    """What follows the shared beginning of a mask's name and of each of the sorted names around it."""
    place = bisect_left(photos, mask)
    for photo in photos[max(place - 1, 0) : place + 1]:
        length = next(
            (i for i, (a, b) in enumerate(zip(photo, mask, strict=False)) if a != b), min(len(photo), len(mask))
        )
        if length < len(photo):  # a photo's whole name is a part that may be shared
            while length and not (_between_words(photo, length) and _between_words(mask, length)):
                length -= 1
        while length and not photo[length - 1].isalnum():
            length -= 1  # what separates the words belongs to the ending
        one, other = photo[length:], mask[length:]
        # Numbers tell photos apart, so they are no sign of a kind of file.
        if length and all(end == "" or any(map(str.isalpha, end)) for end in (one, other)):
            yield one, other


def _between_words(stem: str, place: int) -> bool:
    """Whether a name may be divided here: not within a number or a word."""
    if place == len(stem):
        return True
    left, right = stem[place - 1], stem[place]
    return not (left.isdigit() and right.isdigit()) and not (left.isalpha() and right.isalpha())


def _credible(rule: Rule, count: int, photos: _Names, masks: _Names) -> bool:
    """Whether a rule pairs more than two files that look alike by chance.

    Raises:
        SslkitError: two files of one folder have the same name.
    """
    for names, naming in zip((photos, masks), rule, strict=True):
        if naming in names.doubles:
            one, other = names.doubles[naming]
            if one.parent == other.parent and naming == Naming():
                raise SslkitError(f"{one} and {other} have the same name: one photo and one mask per name are required")
            return False
    kinds = list(zip((photos, masks), rule, strict=True))
    shares = [len(names.by_core(naming)) / max(len(names.files), 1) for names, naming in kinds]
    if rule[0] == rule[1]:
        return count > 0
    if Naming() in rule:
        return count > 1 or (count == 1 and min(shares) == 1)
    return count > 1 and shares[0] >= MOST_PHOTOS


def _preferred(rule: Rule) -> tuple[bool, bool, int]:
    """Of rules that pair as many: labels before pictures of them and copies of photos, then the shortest ending."""
    naming = str(rule[1]).lower()
    length = sum(len(one.before + one.after) for one in rule)
    return not any(word in naming for word in AVOIDED), any(word in naming for word in MEANT), -length


def _paired(photos: _Names, masks: _Names, rule: Rule, others: Sequence[Naming], left: Sequence[str]) -> Pairs:
    """The pairs of a rule, and what it leaves out."""
    found, wanted = photos.by_core(rule[0]), masks.by_core(rule[1])
    names = {core: photos.name(path) for core, path in found.items()}
    used = set(wanted.values())
    remarks = []
    for naming in others:
        more = [path for core, path in masks.by_core(naming).items() if core in found and path not in used]
        used |= set(more)
        remarks += [f"{number_of(len(more), f'mask named {naming}', 'is')} not used"] if more else []
    # Photos and masks of one folder: a mask is no photo without a mask.
    drawn = set(wanted.values())
    mine = set(found.values()) | (used if photos.root == masks.root else set())
    lonely = {photos.name(path): path for path in photos.files if path not in mine}
    strays = [path for path in masks.files if path not in used and path not in mine]
    strays += [path for core, path in wanted.items() if core not in names]
    return Pairs(
        {names[core]: path for core, path in found.items() if path not in drawn} | lonely,
        {names[core]: path for core, path in wanted.items() if core in names},
        f"photo {rule[0]} has the mask {rule[1]}" if rule[0] != rule[1] else "",
        [*remarks, *left],
        sorted(str(path.relative_to(masks.root)) for path in strays),
    )


def _by_format(photos: list[Path], drawn: list[Path]) -> tuple[list[Path], list[Path]]:
    """Photos and masks of one folder: JPEG and the like, and lossless ones, if that is what tells them apart."""
    lossy = [path for path in photos if path.suffix.lower() in LOSSY]
    sharp = [path for path in drawn if path.suffix.lower() not in LOSSY]
    twins = {path.with_suffix("") for path in lossy} & {path.with_suffix("") for path in sharp}
    return (lossy, sharp) if twins else (photos, drawn)


def _outside(files: list[Path], root: Path, other: Path) -> list[Path]:
    """The files of a folder that are not in another one within it."""
    within = other.resolve()
    if not within.is_relative_to(root.resolve()):
        return files
    return [path for path in files if not path.resolve().is_relative_to(within)]
