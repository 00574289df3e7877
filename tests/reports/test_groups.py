from pathlib import Path

import pytest
from run_folders import config, evaluation, make_run

from tenshot.errors import InputError
from tenshot.reports import grouped, read_run
from tenshot.reports.groups import config_differences, method_differences


def names(*folders: Path) -> dict[str, list[str]]:
    groups = grouped([read_run(folder) for folder in folders])
    return {group.name: [run.folder.name for run in group.runs] for group in groups}


def test_repetitions_are_told_by_name_and_configuration(tmp_path: Path):
    seeds = [make_run(tmp_path / "tuned" / f"seed{s}", config(s)) for s in (10, 2)]
    other = make_run(tmp_path / "paired" / "seed1", config(1))
    again = [make_run(tmp_path / name, config(s)) for s, name in enumerate(("scratch", "scratch-2", "scratch_seed7"))]
    assert names(*seeds, other, *again) == {
        "tuned": ["seed2", "seed10"],
        "paired": ["seed1"],
        "scratch": ["scratch", "scratch-2", "scratch_seed7"],
    }


def test_one_name_but_another_configuration_is_another_method(tmp_path: Path):
    a = make_run(tmp_path / "babies" / "tuned" / "seed1", config(1))
    b = make_run(tmp_path / "sunglasses" / "tuned" / "seed2", config(2, vlb_weight=0.5))
    c = make_run(tmp_path / "sunglasses" / "tuned" / "seed3", config(3, vlb_weight=0.7))
    assert names(a, b, c) == {
        "babies/tuned": ["seed1"],
        "sunglasses/tuned": ["seed2"],
        "sunglasses/tuned (2)": ["seed3"],
    }


def test_sources_that_differ_in_their_seed_are_one_method(tmp_path: Path):
    runs = [make_run(tmp_path / f"seed{s}", config(s, init_from=f"runs/source/seed{s}")) for s in (1, 2)]
    assert list(names(*runs).values()) == [["seed1", "seed2"]]


def test_named_groups_hold_what_the_user_says_and_the_difference_is_known(tmp_path: Path):
    a, b = (make_run(tmp_path / name, config(1, vlb_weight=w)) for name, w in (("a", 0.1), ("b", 0.2)))
    [group] = grouped([], {"mine": [read_run(a), read_run(b)]})
    assert group.name == "mine"
    assert method_differences(group.runs) == ["model.vlb_weight"]
    assert group.repeated_seeds == [1]
    assert [group.label(run) for run in group.runs] == ["a", "b"]


def test_only_what_differs_is_listed(tmp_path: Path):
    a = read_run(make_run(tmp_path / "a", config(1)))
    b = read_run(make_run(tmp_path / "b", config(2, pairs="rank")))
    assert config_differences([a, b]) == {
        "seed_everything": [1, 2],
        "trainer.default_root_dir": ["/old/seed1", "/old/seed2"],
        "model.pairs": [None, "rank"],
    }


def test_a_run_counts_once(tmp_path: Path):
    run = make_run(tmp_path / "a", config(1))
    with pytest.raises(InputError, match="given twice"):
        names(run, tmp_path / "." / "a")


def test_the_evaluation_of_most_samples_counts_then_the_last_step(tmp_path: Path):
    few = [evaluation(step, 9.0, 1.0, samples=50) for step in (100, 200, 400)]
    many = [evaluation(step, 9.0, 1.0, samples=200) for step in (150, 300)]
    run = read_run(make_run(tmp_path / "a", config(), [*few, *many]))
    assert run.evaluation is not None
    assert (run.evaluation["step"], run.evaluation["samples"]) == (300, 200)


def test_folders_that_are_no_runs_are_one_line(tmp_path: Path):
    make_run(tmp_path / "tuned" / "seed1", config())
    (tmp_path / "file").touch()
    broken = make_run(tmp_path / "broken", config(), [evaluation(1, 1.0, 1.0)])
    file = broken / "evaluations" / "step=00000001.json"
    for folder, told in (
        (tmp_path / "absent", "there is no such folder"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "tuned", rf"neither config.yaml nor evaluations/.*did you mean {tmp_path / 'tuned' / 'seed1'}\?"),
    ):
        with pytest.raises(InputError, match=told):
            read_run(folder)
    (broken / "config.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"config\.yaml: cannot be read"):
        read_run(broken)
    (broken / "config.yaml").unlink()
    for content, told in (("{", "JSONDecodeError"), ('{"schema": 2}', "schema 2, this version reads 1")):
        file.write_text(content)
        with pytest.raises(InputError, match=rf"{file.name}: .*{told}.*run tenshot test again") as error:
            read_run(broken)
        assert "\n" not in str(error.value)


def test_runs_that_name_their_class_by_the_longer_path_repeat_those_with_the_shorter(tmp_path: Path):
    old, new = config(1), config(2)
    assert old["model"]["class_path"] == "tenshot.lightning_modules.DDPM"
    new["model"]["class_path"], new["data"]["class_path"] = "tenshot.DDPM", "tenshot.SyntheticFaces"
    folders = [make_run(tmp_path / f"seed{n}", one) for n, one in ((1, old), (2, new))]
    [group] = grouped([read_run(folder) for folder in folders])
    assert len(group.runs) == 2
    other = config(3) | {"model": {"class_path": "mine.DDPM", "init_args": config(3)["model"]["init_args"]}}
    runs = [*group.runs, read_run(make_run(tmp_path / "seed3", other))]
    assert len(grouped(runs)) == 2
