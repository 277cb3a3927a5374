"""ImageNet (ILSVRC 2012): the official archives read in place, extracted folders, or Kaggle's.

The archives are ``ILSVRC2012_img_train.tar`` (a tar of tars, or the tars of its classes in a folder) and
``ILSVRC2012_img_val.tar``. Labels of val come from folders named by wnid, ``LOC_val_solution.csv``, the devkit
(``ILSVRC2012_devkit_t12``, packed or not), or a list of wnids such as ``imagenet_2012_validation_synset_labels.txt``.
"""

import csv
import io
import re
import tarfile
from pathlib import Path, PurePosixPath

from sslkit.data.prepare.archives.files import Files
from sslkit.data.prepare.archives.nested import Nested
from sslkit.data.prepare.archives.opening import open_files
from sslkit.data.prepare.listed import ListedSource
from sslkit.data.prepare.split_names import split_within
from sslkit.errors import SslkitError, number_of

IMAGE = re.compile(r"\.(jpe?g|png)$", re.I)
WNID = re.compile(r"n\d{8}")
NUMBERED = re.compile(r"ILSVRC2012_(val|test)_(\d{8})")
OFFICIAL = re.compile(r"ILSVRC2012_(img_(train|val).*\.tar|val_\d{8}\.JPEG)|LOC_val_solution\.csv|n\d{8}\.tar", re.I)
IMAGES_TAR = re.compile(r"ILSVRC2012_img_(train|val)[^/]*\.tar$|n\d{8}\.tar$", re.I)
SOLUTION, SYNSETS = "loc_val_solution.csv", "synset_labels.txt"
TRUTH, META, DEVKIT = "ILSVRC2012_validation_ground_truth.txt", "meta.mat", "ILSVRC2012_devkit_t12.tar.gz"


class Imagenet(ListedSource):
    """ImageNet; classes are named by wnid."""

    specific = 40
    dataset_classes, layout_of = 1000, "ImageNet"
    needs = "a folder that holds the official archives and the devkit, the extracted images, or Kaggle's"

    @classmethod
    def recognise(cls, files: Files, root: Path) -> str | None:
        """By the official names of its archives, tables or val images."""
        found = [PurePosixPath(name).name for name in files.names if OFFICIAL.fullmatch(PurePosixPath(name).name)]
        if not found:
            return None
        kind = "as distributed by Kaggle" if any(name.lower() == SOLUTION for name in found) else "extracted"
        if any(name.endswith(".tar") for name in found):
            kind = "the official archives, read in place"
        return f"ImageNet: {kind}"

    def list_files(self, scratch: Path) -> Files:
        """The files, with the members of the tars of images."""
        files = open_files(self._root, scratch)
        tars = any(name.lower().endswith(".tar") for name in files.names)
        return Nested(files, lambda name: bool(IMAGES_TAR.search(name))) if tars else files

    def arrange(self, files: Files) -> dict[str, tuple[list[int], list[str]]]:
        """By the folder or tar that is named by a wnid, and val's numbers by a table."""
        rows: dict[str, tuple[list[int], list[str]]] = {"train": ([], []), "val": ([], [])}
        test, loose, later = 0, 0, list[tuple[int, str]]()
        for i, name in enumerate(files.names):
            if not IMAGE.search(name):
                continue
            numbered = NUMBERED.match(name, name.rfind("/") + 1)
            folder = name.rpartition("/")[0]
            wnid = folder[-13:].rpartition("/")[2].removesuffix(".tar")
            wnid = wnid if WNID.fullmatch(wnid) else ""
            split = numbered[1].lower() if numbered else split_within(folder) or "train"
            if split == "test" or not (wnid or numbered):
                test, loose = test + (split == "test"), loose + (split != "test")
                continue
            if not wnid:
                later.append((len(rows[split][0]), numbered[0] if numbered else ""))
            rows[split][0].append(i)
            rows[split][1].append(wnid)
        if later:
            truth = self._checked_truth(files)
            for place, number in later:
                rows["val"][1][place] = truth.get(number, "")
        self._remark(rows["val"][1], test, loose)
        found = {wnid for _, wnids in rows.values() for wnid in wnids if wnid}
        if len(found) != self.dataset_classes:
            count = f"{number_of(len(found), 'class')} instead of ImageNet's {self.dataset_classes:,}"
            self.took = f"{self.took}, {count}" if self.took else count
        return rows

    def _remark(self, val: list[str], test: int, loose: int) -> None:
        if test:
            self.remarks.append(f"test is not used: its {number_of(test, 'image', 'has')} no labels")
        if loose:
            self.remarks.append(f"{number_of(loose, 'image', 'is')} not used, being in no folder named by a wnid")
        if "" in val:
            self.remarks.append(
                f"{val.count('')} of {len(val)} images of val have no label: put {DEVKIT} or LOC_val_solution.csv "
                f"into {self.root}, then rerun with --force"
            )

    def _checked_truth(self, files: Files) -> dict[str, str]:
        """``_truth``; whatever a damaged table raises names the table.

        Raises:
            SslkitError: a table cannot be read.
        """
        try:
            return self._truth(files)
        except SslkitError:
            raise
        except Exception as error:  # csv.Error, UnicodeDecodeError, and anything that scipy's reader of .mat raises
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            names = ", ".join(PurePosixPath(files.names[i]).name for i in sorted(self.tables))
            raise SslkitError(f"{names} cannot be read ({reason}); download it again") from error

    def _truth(self, files: Files) -> dict[str, str]:
        """``ILSVRC2012_val_00000001`` -> wnid, from the first table there is."""
        at = {PurePosixPath(name).name.lower(): i for i, name in enumerate(files.names) if not IMAGE.search(name)}
        for name in sorted(at):
            if name == SOLUTION:
                return self._solution(files.need(self._used(at[name])))
            if name.endswith(SYNSETS):
                return _numbered(files.need(self._used(at[name])).decode().split())
        if TRUTH.lower() in at and META in at:
            return _devkit(files.need(self._used(at[TRUTH.lower()])), files.need(self._used(at[META])))
        for name in sorted(at):
            if name.startswith("ilsvrc2012_devkit") and name.endswith((".tar.gz", ".tgz", ".tar")):
                return _packed_devkit(files.need(self._used(at[name])), files.names[at[name]])
        return {}

    def _used(self, position: int) -> int:
        self.tables.add(position)
        return position

    def _solution(self, table: bytes) -> dict[str, str]:
        rows = csv.reader(io.StringIO(table.decode()))
        return {row[0]: row[1].split()[0] for row in rows if len(row) > 1 and WNID.match(row[1])}


def _numbered(wnids: list[str]) -> dict[str, str]:
    return {f"ILSVRC2012_val_{i:08d}": wnid for i, wnid in enumerate(wnids, 1)}


def _packed_devkit(archive: bytes, name: str) -> dict[str, str]:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            found = {PurePosixPath(m.name).name: tar.extractfile(m) for m in tar if m.isreg()}
            truth, meta = found[TRUTH], found[META]
            if truth is None or meta is None:
                raise KeyError(TRUTH)
            return _devkit(truth.read(), meta.read())
    except SslkitError:
        raise
    except Exception as error:  # of the compression, the tar or the tables in it
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SslkitError(f"{name} is damaged or not the devkit ({reason}); download it again") from error


def _devkit(truth: bytes, meta: bytes) -> dict[str, str]:
    """From the ids of the val images, one a line, and the table from id to wnid; ids are not in the wnids' order."""
    from scipy.io import loadmat

    synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"].ravel()
    leaves = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets if int(row["num_children"]) == 0}
    try:
        return _numbered([leaves[int(line)] for line in truth.split()])
    except (KeyError, ValueError) as error:
        raise SslkitError(f"{TRUTH} names the class {error}, which is not in meta.mat; download it again") from error
