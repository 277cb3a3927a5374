"""The k-NN probe for k = 10, 20, 100, 200 against one FAISS search at k = 200 and the bare products; its memory.

python tests/benchmarks/knn.py
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from timing import interleave, ratio, show, verdict

from sslkit.fast_faiss import faiss
from sslkit.probes.classify.knn import QUERIES, knn
from sslkit.probes.features.features import open_features

WIDTH, CLASSES = 384, 100


def write(folder: Path, name: str, rows: int) -> None:
    """Random features in a split's folder, written in chunks."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(rows)
    features = np.lib.format.open_memmap(folder / name / "cls.npy", "w+", np.float32, (rows, WIDTH))
    for first in range(0, rows, 10_000):
        features[first : first + 10_000] = noise.normal(size=features[first : first + 10_000].shape)
    np.save(folder / name / "labels.npy", noise.integers(0, CLASSES, rows))


def read(folder: Path, name: str):
    """The split through sslkit's memory maps."""
    return open_features([folder / name / "cls.npy"], folder / name / "labels.npy")


def peak_megabytes(folder: Path, name: str) -> float:
    """Peak resident memory that a fresh process needs for the probe, above its imports."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[3]); import knn; from pathlib import Path\n"
        "from stages.contract.record import peak_memory_mb; f = Path(sys.argv[1]); before = peak_memory_mb()\n"
        "knn.knn(knn.read(f, 'train'), knn.read(f, sys.argv[2])); print(peak_memory_mb() - before)"
    )
    words = [sys.executable, "-c", code, str(folder), name, str(Path(__file__).parent)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, rows in (("train", arguments.train), ("val", arguments.queries), ("few", arguments.queries // 10)):
            write(folder, split, rows)
        bank = np.array(np.load(folder / "train" / "cls.npy"))
        queries = np.array(np.load(folder / "val" / "cls.npy"))
        faiss.normalize_L2(bank)
        faiss.normalize_L2(queries)
        index = faiss.IndexFlatIP(WIDTH)
        index.add(bank)  # type: ignore[call-arg]
        rows = torch.from_numpy(bank)

        def products() -> None:
            for part in torch.from_numpy(queries).split(QUERIES):
                torch.nn.functional.linear(part, rows)

        contenders = {
            "the products alone, torch": products,
            "one faiss search, k = 200": lambda: index.search(queries, 200),  # type: ignore[call-arg]
            "sslkit knn, four k": lambda: knn(read(folder, "train"), read(folder, "val")),
        }
        seconds = interleave(contenders, arguments.rounds)
        print(f"{arguments.train} x {WIDTH} features, {arguments.queries} queries")
        show(seconds, arguments.queries, "queries")
        verdict(
            "sslkit / faiss", ratio(seconds, "sslkit knn, four k", "one faiss search, k = 200"), 1.3, at_least=False
        )
        verdict("products alone / sslkit", 1 / ratio(seconds, "sslkit knn, four k", "the products alone, torch"), 0.85)
        few, many = peak_megabytes(folder, "few"), peak_megabytes(folder, "val")
    mb = arguments.train * WIDTH * 4 / 2**20
    print(f"memory above the imports: {few:.0f} MB for {arguments.queries // 10} queries, {many:.0f} MB for ten times")
    print(f"(the index alone is {mb:.0f} MB; mapped pages of the feature files count as resident)")


if __name__ == "__main__":
    main()
