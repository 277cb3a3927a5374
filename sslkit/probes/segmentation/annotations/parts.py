"""A part of a dataset: the folder of a split, or the photos that a list names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sslkit.data.prepare.split_names import split_named
from sslkit.errors import SslkitError, named
from sslkit.probes.segmentation.annotations.pairs import Pairs


def read_list(path: Path) -> list[str]:
    """The lines of a list of photos, each once; see ``match`` for what they may hold.

    Raises:
        SslkitError: it cannot be read, or names nothing.
    """
    lists = [
        one.stem for one in sorted(path.parent.glob("*.txt")) if one != path and one.is_file() and one.stat().st_size
    ]
    others = f" (lists with names there: {named(lists, 6)})" if lists else ""
    advice = f"; choose another by --split NAME or --list FILE{others}"
    if not path.is_file():
        raise SslkitError(f"{path} does not exist{advice}")
    try:
        # Names of files may be any bytes, and are read as the file system's are.
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise SslkitError(f"{path} cannot be read as a list of photos ({str(error).splitlines()[0][:80]})") from error
    names = dict.fromkeys(line.strip() for line in lines if line.strip())
    if names:
        return list(names)
    raise SslkitError(f"{path} is empty{advice}")


def match(pairs: Pairs, listed: Path | None) -> tuple[list[str], list[str]]:
    """The names of the photos that have a mask, all or those of a list in its order, and remarks on the others.

    A line of the list begins with a photo's name or path, with or without suffix.

    Raises:
        SslkitError: there is none.
    """
    if listed is None:
        names = sorted(pairs.photos.keys() & pairs.masks.keys())
        without = sorted(pairs.photos.keys() - pairs.masks.keys())
        strays = [*pairs.strays, *sorted(pairs.masks.keys() - pairs.photos.keys())]
        remarks = [_left_out(without, "photo has no mask", "photos have no mask")] if without else []
        remarks += [_left_out(strays, "mask has no photo", "masks have no photo")] if strays else []
    else:
        known = _by_any_name(pairs.photos)
        wanted = {line: _known(line, known) for line in read_list(listed)}
        unknown = [word for word, name in wanted.items() if name is None]
        found = list(dict.fromkeys(name for name in wanted.values() if name is not None))
        names, without = [n for n in found if n in pairs.masks], [n for n in found if n not in pairs.masks]
        where = f"in {listed.name}"
        remarks = [_left_out(unknown, f"name {where} has no photo", f"names {where} have no photo")] if unknown else []
        remarks += [_left_out(without, f"photo {where} has no mask", f"photos {where} have no mask")] if without else []
    if names:
        return names, [*remarks, *pairs.others]
    source = f"named by {listed} " if listed else ""
    raise SslkitError(f"no photo {source}has a mask" + (f": {'; '.join(remarks)}" if remarks else ""))


def _left_out(names: Sequence[str], one: str, several: str) -> str:
    verb = "and is" if len(names) == 1 else "and are"
    return f"{len(names)} {one if len(names) == 1 else several} {verb} left out: {named(names)}"


def _by_any_name(photos: Mapping[str, Path]) -> dict[str, str]:
    """Names by what a list may call them: the path, and its last part where that is unique."""
    last: dict[str, list[str]] = {}
    for name in photos:
        last.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    return {short: names[0] for short, names in last.items() if len(names) == 1} | {name: name for name in photos}


def _known(line: str, names: Mapping[str, str]) -> str | None:
    """The photo that a line of a list means; the line may go on after the name."""
    for word in (line, line.split()[0], line.split(",")[0]):
        for form in (word, word.rsplit("/", 1)[-1]):
            for name in (form, form.rsplit(".", 1)[0]):
                if name in names:
                    return names[name]
    return None


def split_folder(folders: Sequence[Path], split: str) -> Path:
    """The folder of a split: of that name, or of another name for it, such as ``validation`` for ``val``.

    Raises:
        SslkitError: none of them.
    """
    named_so = [path for path in folders if path.name.lower() == split.lower()]
    named_so += [path for path in folders if split_named(path.name) == split.lower()]
    if named_so:
        return named_so[0]
    where = folders[0].parent if folders else Path()
    raise SslkitError(f"{where} has no {split}: it has {named([path.name for path in folders], 6)}; choose by --split")
