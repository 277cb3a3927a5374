"""Which keys of a checkpoint filled an encoder."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Coverage:
    """Which keys of a file filled an encoder, under the names they have in the file.

    Attributes:
        file: name of the file.
        layout: title of its layout.
        path: the containers that were opened, outermost first; empty for a bare state dict.
        used: keys whose tensors are now in the encoder.
        unused: tensors that are in the file and not in the encoder: heads, decoders, mask tokens, the other branch.
        missing: keys of the encoder that the file did not fill; always empty, since such a file is refused.
        remarks: what the user should know: which branch was taken, what was resampled.
    """

    file: str
    layout: str
    path: tuple[str, ...]
    used: list[str]
    unused: list[str]
    missing: list[str]
    remarks: list[str]

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
