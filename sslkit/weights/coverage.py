"""Which keys of a checkpoint filled an encoder."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Coverage:
    """Which keys of a file filled an encoder, under the names they have in the file."""

    file: str
    layout: str  # its title
    path: tuple[str, ...]  # the containers that were opened, outermost first; empty for a bare state dict
    used: list[str]
    unused: list[str]  # heads, decoders, mask tokens, the other branch
    missing: list[str]  # keys of the encoder; always empty, since a file that does not fill it is refused
    remarks: list[str]  # for the user: which branch was taken, what was resampled

    def as_json(self) -> dict[str, Any]:
        """For ``features.json``: all but the layout, which the keys imply."""
        return {key: value for key, value in asdict(self).items() if key != "layout"}

    def line(self) -> str:
        """The report in one line; unused keys are grouped by the first part of their names."""
        groups: dict[str, int] = {}
        for key in self.unused:
            group = key.removeprefix(".".join([*self.path, ""])).split(".")[0]
            groups[group] = groups.get(group, 0) + 1
        rest = ", ".join(f"{name} ({count})" for name, count in groups.items())
        unused = f"{len(self.unused)} unused{f': {rest}' if rest else ''}"
        return "; ".join([f"{self.file}, read as {self.layout}: {len(self.used)} keys used, {unused}", *self.remarks])
