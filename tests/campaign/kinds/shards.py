"""WebDataset tars of another program, their labels, json, names and manifest odd or damaged, through ``prepare``."""

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

from campaign.damage import VALUES, damage_file, damage_value, damaged, odd_file
from campaign.kind import Damage, Kind
from campaign.kinds.archives import tar_of
from campaign.kinds.images import picture

LABELS = (
    *(b"", b"x", b"-1", b"-7", b"100000000", b"9" * 40, b"9" * 5000, b"1.5", b"\xff\xfe", b"1\n", b"1_0", b"\xd9\xa3"),
)
ENDINGS = (
    *("x" * 200, "\u30cd\u30b3", "", "__key__", "_x", "a.b.c", "jpg", "webp", "json", "cls", "CLS", "mask.png", "a b"),
)
MANIFESTS = (b"", b"{", b"[]", b"\xff", b'{"classes": 5}', b'{"classes": [1]}', b'{"classes": ["a"]}', b"[" * 5000)


class Shards(Kind):
    """Two tars of train: one with numbers in ``cls``, and json with a label."""

    def build(self, folder: Path) -> None:
        """Six samples in each."""
        (folder / "input").mkdir()
        for shard in range(2):
            (folder / "input" / f"train-{shard}.tar").write_bytes(tar_of(_members(shard)))

    def damage(self, folder: Path, draw: Random) -> Damage:
        """Bytes, a label, a json value, an ending, the manifest, or a tar that is none."""
        path = draw.choice(sorted((folder / "input").iterdir()))
        way = draw.choice(("bytes", "bytes", "label", "json", "ending", "manifest", "member", "odd"))
        if way == "bytes":
            return Damage(damage_file(path, draw), recorded=False)  # of the text members nothing tells
        if way == "odd":
            return Damage(odd_file(path, draw))
        if way == "manifest":
            text = draw.choice((*MANIFESTS, json.dumps(damage_value({"classes": ["a", "b"]}, draw)[0]).encode()))
            path.with_name("manifest.json").write_bytes(text)
            return Damage(f"manifest {text[:30]!r}", recorded=False)
        members = dict(_members(int(path.stem[-1])))
        names = [*members]
        if way == "label":
            value = draw.choice(LABELS)
            chosen = [name for name in names if name.endswith(".cls")]
            for name in chosen if draw.random() < 0.2 else [draw.choice(chosen)]:
                members[name] = value
            words = f"label {value[:20]!r}"
        elif way == "json":
            name = draw.choice([name for name in names if name.endswith(".json")])
            value, words = damage_value(json.loads(members[name]), draw)
            if draw.random() < 0.3:
                value = {"label": draw.choice(VALUES), "class_name": draw.choice(VALUES)}
            members = {n: data for n, data in members.items() if draw.random() < 0.5 or not n.endswith(".cls")}
            members[name] = json.dumps(value).encode()
        elif way == "ending":
            ending = draw.choice(ENDINGS)
            words = f"ending {ending[:20]!r}"
            members[f"000001.{ending}" if ending else "000001"] = draw.choice((b"1", picture(9, "jpg"), b"\xff"))
        else:
            name = draw.choice(names)
            members[name], words = damaged(members[name], draw)
        path.write_bytes(tar_of([*members.items()], form=1))
        return Damage(f"{path.name}: {words}", recorded=False)

    def commands(self, folder: Path) -> list[list[str]]:
        """Prepare, and read all again by another command."""
        words = ["prepare", "run", "--source", "shards", "--root", "input", "--workers", "0", "--val-fraction", "0"]
        return [words]

    def result(self, folder: Path) -> Any:
        """Digests of the pixels and the labels' names by name; reading each member checks the index."""
        from sslkit.data.shards import open_split

        split, found = open_split(folder / "run" / "data", "train"), {}
        for i in range(len(split)):
            for name in split._members(split._shard(i)).members.tolist():
                split.member(i, name)
            pixels = split.image(i).contiguous().numpy().tobytes()
            label = split.classes[split.labels[i]] if split.labels[i] >= 0 else ""
            found[split.own_name(i)] = [hashlib.sha256(pixels).hexdigest(), label]
        return found


def _members(shard: int) -> list[tuple[str, bytes]]:
    """(name, content) of a tar's members."""
    members = []
    for i in range(6 * shard, 6 * shard + 6):
        members.append((f"{i:06d}.png", picture(i, "png")))
        if i % 3:
            members.append((f"{i:06d}.cls", b"%d" % (i % 2)))
        members.append((f"{i:06d}.json", json.dumps({"label": i % 2, "class_name": ("ant", "bee")[i % 2]}).encode()))
    return members
