"""Keep the results of runs in .readme/results.json, and print the tables of .readme/measured.md from it.

python tests/benchmarks/evidence.py keep NAME RUN ...   # what runs of one experiment ended with, and how they were made
python tests/benchmarks/evidence.py table NAME          # its table, which a test compares with the page
"""

import json
import sys
from pathlib import Path
from statistics import fmean, median
from typing import Any

from sslkit.statistics.intervals import interval
from sslkit.statistics.paired import over_seeds
from sslkit.statistics.signed import signed

KEPT = Path(__file__).parents[2] / ".readme" / "results.json"
STAGES = ("pretrain", "knn", "linear")
NAMES = {"pixels": "raw pixels", "random": "random initialisation"}
REFERENCE = "ibot-random"  # what a table over seeds compares with
MARGINAL, TEACHER = "dino/marginal_entropy", "dino/teacher_entropy"
Runs = dict[str, dict[str, dict[str, Any]]]  # stages by name and seed


def keep(experiment: str, runs: list[Path]) -> None:
    """Add the results of runs, or replace them."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for run in runs:
        stages = {name: run / name / "stage.json" for name in STAGES}
        records = {name: json.loads(path.read_text()) for name, path in stages.items() if path.exists()}
        found: dict[str, Any] = {name: short(one) for name, one in records.items() if one["status"] == "done"}
        log = run / "pretrain" / "metrics.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        if rows:
            found["online k-NN"] = [[round(row["epoch"], 2), row["knn"]] for row in rows if "knn" in row]
            if speeds := [row["images_per_second"] for row in rows if "images_per_second" in row]:
                found["images/s"] = median(speeds)
            hidden = [row["masked_on_object"] for row in rows if "masked_on_object" in row]
            if hidden:
                found["masked on the object"] = round(100 * fmean(hidden[len(hidden) // 2 :]), 1)
            measured = [row for row in rows if row.keys() >= {MARGINAL, TEACHER}]
            if measured:  # mutual information of DINO's targets and the image, nats
                found["information"] = round(measured[-1][MARGINAL] - measured[-1][TEACHER], 2)
            # A run that has not ended has no results, and a log may have come without its record.
            if collapse := records.get("pretrain", {}).get("results", {}).get("collapse"):
                found["collapse"] = collapse
        kept.setdefault(experiment, {})[run.name] = found
    KEPT.write_text(lines_of(kept))


def lines_of(kept: dict[str, dict[str, Any]]) -> str:
    """JSON with a line for each run, so that a change of one is a change of one line."""
    parts = []
    for experiment, runs in kept.items():
        inner = ",\n".join(f"  {json.dumps(name)}: {json.dumps(run)}" for name, run in runs.items())
        parts.append(f" {json.dumps(experiment)}: {{\n{inner}\n }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def short(record: dict[str, Any]) -> dict[str, Any]:
    """Of a stage's record: its command, its results without lists, and what it took; paths without their folders."""
    results = {key: value for key, value in record["results"].items() if isinstance(value, int | float)}
    words = [Path(word).name if word.startswith("/") else word for word in record["command"].split()]
    return {"command": " ".join(words), "seconds": record["seconds"], "device": record["how"].get("device"), **results}


def table(experiment: str) -> str:
    """Markdown: a row for each run, in the order in which they were kept."""
    runs = json.loads(KEPT.read_text())[experiment]
    if experiment in TABLES:
        return TABLES[experiment](by_seed(runs))
    lines = ["| run | k-NN | linear | epochs | steps | minutes | images/s |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, stages in runs.items():
        shown = [f"{stages[stage]['top1']:.1f}" if stage in stages else "-" for stage in ("knn", "linear")]
        if training := stages.get("pretrain"):
            shown += [f"{training['epochs']:g}", f"{training['steps']:,}", f"{training['seconds'] / 60:.1f}"]
            shown += [f"{training['images_per_second']:,.0f}"]
        else:
            shown += ["-"] * 4
        lines.append(f"| {NAMES.get(name, f'`{name}`')} | {' | '.join(shown)} |")
    return "\n".join(lines)


def by_seed(runs: dict[str, dict[str, Any]]) -> Runs:
    """``NAME-sSEED`` of those that were evaluated, by name and seed."""
    recipes: Runs = {}
    for name, stages in runs.items():
        recipe, _, seed = name.rpartition("-s")
        if recipe and seed.isdigit() and "knn" in stages:
            recipes.setdefault(recipe, {})[seed] = stages
    return recipes


def over_seeds_table(recipes: Runs) -> str:
    """Markdown: means over seeds, and the difference from ``REFERENCE`` with the same seeds; 95 % t intervals."""
    masked = any("masked on the object" in one for seeds in recipes.values() for one in seeds.values())
    columns = ["recipe", "seeds", *["on the object, %"] * masked]
    columns += [word for stage in ("k-NN", "linear") for word in (stage, "difference", "seeds needed")]
    lines = [f"| {' | '.join(columns)} |", "|---|---:" + "|---:" * (len(columns) - 2) + "|"]
    for name, seeds in recipes.items():
        shown = [f"`{name}`", str(len(seeds))]
        if masked:
            shown.append(f"{fmean(one['masked on the object'] for one in seeds.values()):.1f}")
        for stage in ("knn", "linear"):
            mean, half = interval([one[stage]["top1"] for one in seeds.values()])
            shown.append(f"{mean:.1f}" if half is None else f"{mean:.1f} ± {half:.1f}")
            shared = [seed for seed in seeds if seed in recipes[REFERENCE]]
            if name == REFERENCE or len(shared) < 2:
                shown += ["-", "-"]
                continue
            paired = over_seeds(*([of[seed][stage]["top1"] for seed in shared] for of in (seeds, recipes[REFERENCE])))
            shown.append(f"{signed(paired.difference)} ({signed(paired.low)} to {signed(paired.high)})")
            shown.append(str(paired.needed))
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def sweep_table(recipes: Runs) -> str:
    """Markdown: what each variant differs by from the base with the same seed, best linear probe first."""
    lines = ["| changed | k-NN | difference | linear | difference | images/s |", "|---|---:|---:|---:|---:|---:|"]
    for name in sorted(recipes, key=lambda name: -fmean(one["linear"]["top1"] for one in recipes[name].values())):
        seeds, shown = recipes[name], [f"`{name}`"]
        for stage in ("knn", "linear"):
            shown.append(f"{fmean(one[stage]['top1'] for one in seeds.values()):.1f}")
            differences = [one[stage]["top1"] - recipes["base"][seed][stage]["top1"] for seed, one in seeds.items()]
            shown.append("-" if name == "base" else ", ".join(signed(difference) for difference in differences))
        speeds = [one["images/s"] for one in seeds.values() if "images/s" in one]
        shown.append(f"{fmean(speeds):,.0f}" if speeds else "-")
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def knobs_table(recipes: Runs) -> str:
    """Markdown: k-NN without each of DINO's components, and what it loses to all of them with the same seeds."""
    knobs = list(dict.fromkeys(name.split(".")[0] for name in recipes))
    columns = list(dict.fromkeys(name.split(".")[1] for name in recipes))
    lines = [f"| removed | {' | '.join(f'`{recipe}`' for recipe in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for knob in knobs:
        shown = ["nothing" if knob == "full" else knob.removeprefix("no-").replace("-", " ")]
        for recipe in columns:
            seeds, full = recipes[f"{knob}.{recipe}"], recipes[f"full.{recipe}"]
            cell = ", ".join(f"{one['knn']['top1']:.1f}" for one in seeds.values())
            paired = [seeds[seed]["knn"]["top1"] - full[seed]["knn"]["top1"] for seed in seeds if seed in full]
            if knob != "full":
                cell += f" ({signed(fmean(paired))})"
            verdicts = [verdict for one in seeds.values() for verdict in one.get("collapse", {}).values()]
            cell += "".join(f"; {verdict} in {verdicts.count(verdict)}" for verdict in dict.fromkeys(verdicts))
            information = ", ".join(f"{one['information']:.1f}" for one in seeds.values())
            shown.append(f"{cell}; {information} nats")
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


TABLES = {
    "shapes-masks": over_seeds_table,
    "photos-masks": over_seeds_table,
    "sweep": sweep_table,
    "start": sweep_table,
    "knobs": knobs_table,
}


if __name__ == "__main__":
    what, name, *rest = sys.argv[1:]
    if what == "keep":
        keep(name, [Path(word) for word in rest])
    else:
        print(table(name))
