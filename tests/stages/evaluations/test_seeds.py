"""Names of runs, and which runs are seeds of one experiment."""

from pathlib import Path

from stages.evaluations.seeds import group_of, grouped, seed_of


def test_names_are_distinct_and_seeds_are_joined(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / name for name in ("a-s0", "a-s1", "b", "c-s3")]
    assert list(grouped(paths, by_seed=False)) == ["a-s0", "a-s1", "b", "c-s3"]
    # A single seed keeps its whole name.
    assert {name: len(found) for name, found in grouped(paths, by_seed=True).items()} == {"a": 2, "b": 1, "c-s3": 1}
    assert list(grouped([*paths[:2], tmp_path / "x" / "a"], by_seed=True)) == ["a-s*", "a"]
    others = [tmp_path / folder / f"a-s{seed}" for folder in "xy" for seed in (0, 1)]
    assert list(grouped(others, by_seed=True)) == ["x/a", "y/a"]
    assert len(grouped([paths[0], paths[0]], by_seed=True)) == 1


def test_a_run_is_found_by_its_path_or_by_the_common_name_of_its_seeds(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a-s0", "a-s1", "b", "c-s3")]
    groups = grouped(paths, by_seed=True)
    assert [group_of(path, groups, True) for path in (*paths, tmp_path / "a", tmp_path / "c")] == [
        *("a", "a", "b", "c-s3"),
        *("a", "c-s3"),
    ]
    assert group_of(tmp_path / "d", groups, True) is None
    # A run with exactly that name comes before the seeds; without --seeds there are none.
    own = grouped([*paths, tmp_path / "a"], by_seed=True)
    assert own[str(group_of(tmp_path / "a", own, True))] == [tmp_path / "a"]
    assert group_of(tmp_path / "a", grouped(paths, by_seed=False), False) is None


def test_the_seed_is_the_number_at_the_end_of_the_name(tmp_path: Path) -> None:
    names = {"a-s0": 0, "a-s12": 12, "a-s1-s3": 3, "a": None, "a-s": None, "as1": None, "a-s1b": None}
    assert {name: seed_of(tmp_path / name) for name in names} == names


def test_paths_are_given_back_as_they_were_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [Path("x/a-s0"), Path("x/../x/a-s1"), tmp_path / "b", Path("x/a-s0")]
    groups = grouped(paths, by_seed=True)
    assert groups == {"a": [Path("x/a-s0"), Path("x/../x/a-s1")], "b": [tmp_path / "b"]}
    assert group_of(tmp_path / "x" / "a-s1", groups, True) == "a"
    assert group_of(Path("b"), groups, False) == "b"
