"""Which split a folder or file belongs to by its name, in any case: ``Training``, ``test_set``, ``train2017``."""

import re

SPLITS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
VAL_IS_TEST = "val is the source's test"  # what is said where there is no val, and test takes its place
_NAMES = {name: split for split, names in SPLITS.items() for name in names}
_ANY = "|".join(sorted(_NAMES, key=len, reverse=True))
_NAME = re.compile(rf"({_ANY})([-_ ]?(set|split|images?|imgs|data|\d+))*", re.I)
_WITHIN = re.compile(rf"(?:^|[^a-z])({_ANY})(?:[^a-z]|$)", re.I)


def split_named(name: str) -> str | None:
    """``train``, ``val`` or ``test`` if the whole name says so, else None.

    >>> split_named("Testing"), split_named("train2017"), split_named("training_set"), split_named("trains")
    ('test', 'train', 'train', None)
    """
    found = _NAME.fullmatch(name)
    return _NAMES[found[1].lower()] if found else None


def split_within(name: str) -> str | None:
    """The split that a file name such as ``validation-00000-of-00002.parquet`` begins with or holds as a word.

    >>> split_within("validation-00000-of-00002"), split_within("cifar_test"), split_within("contest")
    ('val', 'test', None)
    """
    found = _WITHIN.search(name)
    return _NAMES[found[1].lower()] if found else None
