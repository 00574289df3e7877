"""Stages of commands as processes, two at a time; the commands are small programs that wait for each other's files."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "stages.py"
PROGRAM = """
import os, sys, time
from pathlib import Path
word, mine, *awaited = sys.argv[1:]
print(f"threads {os.environ.get('OMP_NUM_THREADS')}")
print(f"training 7/9  and a note", flush=True)
Path(mine).touch()
while not all(Path(name).exists() for name in awaited):
    time.sleep(0.02)
if word == "fail":
    print("tenshot: error: no such thing")
    sys.exit(2)
"""


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, with the small program in tenshot's place."""
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(PROGRAM)
    spec = importlib.util.spec_from_file_location("stages", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "stages", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PROGRAM", (sys.executable, "program.py"))
    monkeypatch.setattr(module, "LOOK", 0.02)
    return module


def stage(stages: Any, name: str, *commands: str) -> Any:
    return stages.Stage(name, tuple(tuple(command.split()) for command in commands), Path(name))


@pytest.fixture
def ended_before(stages: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Which stages had ended when the last command of a stage began."""
    seen: dict[str, list[str]] = {}
    start = stages.start

    def noted(one: Any, threads: int | None) -> Any:
        ended = [name for name in "abc" if Path(name, "done.json").exists()]
        seen[one.name] = [name for name in ended if len(json.loads(Path(name, "done.json").read_text())) == 2]
        return start(one, threads)

    monkeypatch.setattr(stages, "start", noted)
    return seen


def test_two_stages_run_side_by_side_and_the_commands_of_each_in_turn(
    stages: Any, ended_before: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
):
    """Each of the first two waits for the other, twice; the third for the end of either."""
    plan = [
        stage(stages, "a", "fit a1 b1", "test a2 b2"),
        stage(stages, "b", "fit b1 a1", "test b2 a2"),
        stage(stages, "c", "fit c1", "test c2"),
    ]
    done = [one.name for one in stages.run_stages(plan, 2, 3)]
    assert sorted(done) == ["a", "b", "c"]
    assert (ended_before["a"], ended_before["b"]) == ([], [])
    assert ended_before["c"] != []
    assert Path("a/log.txt").read_text().count("threads 3\n") == 2
    assert "$ OMP_NUM_THREADS=3 tenshot fit a1 b1" in capsys.readouterr().out
    assert list(map(list, plan[0].commands)) == json.loads(Path("a/done.json").read_text())


def test_one_at_a_time_takes_what_threads_there_are(
    stages: Any, ended_before: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    plan = [stage(stages, "a", "fit a1", "test a2"), stage(stages, "b", "fit b1", "test b2")]
    assert [one.name for one in stages.run_stages(plan, 1, None)] == ["a", "b"]
    assert ended_before == {"a": [], "b": ["a"]}
    assert "threads None\n" in Path("a/log.txt").read_text()


def test_what_failed_is_named_with_the_end_of_its_log_and_the_other_goes_on_the_next_time(stages: Any):
    """The other one waits for a file that nobody writes, until it is told to stop."""
    plan = [stage(stages, "good", "fit g1", "test g2 never"), stage(stages, "bad", "fail x g2")]
    with pytest.raises(stages.StageFailed, match=r"^bad failed \(tenshot fail, status 2\)") as error:
        list(stages.run_stages(plan, 2, 1))
    assert "\ntenshot: error: no such thing\n" in str(error.value)
    assert str(Path("bad/log.txt").resolve()) in str(error.value)
    assert json.loads(Path("good/done.json").read_text()) == [["fit", "g1"]]

    Path("never").touch()
    again = [plan[0], stage(stages, "bad", "fit x")]
    assert {one.name for one in stages.run_stages(again, 2, 1)} == {"good", "bad"}
    assert Path("good/log.txt").read_text().count("$ tenshot fit g1") == 1
    assert Path("good/log.txt").read_text().count("$ tenshot test g2 never") == 2


def test_a_folder_of_other_commands_is_refused(stages: Any):
    list(stages.run_stages([stage(stages, "a", "fit a1")], 1, None))
    with pytest.raises(stages.StageFailed, match="a: is of other commands or an earlier version: move it away"):
        list(stages.run_stages([stage(stages, "a", "fit a2")], 1, None))


def test_how_far_a_stage_is_comes_from_its_log(stages: Any):
    Path("a").mkdir()
    Path("a/log.txt").write_text("training 2/9\n")  # of an earlier command
    one = stages.start(stage(stages, "a", "fit a1"), None)
    assert "2/9" not in one.progress()
    one.process.wait()
    assert one.progress().startswith("a: training 7/9, 0:")
    later = stages.Running(one.stage, one.process, ("test",), one.began, one.stage.log.stat().st_size)
    assert later.progress().startswith("a: measuring, 0:")


@pytest.mark.parametrize(
    ("cores", "free", "gpu", "chosen"),
    [
        (2, 2.0, False, (2, 1)),
        (2, 0.9, False, (2, 1)),  # a busy machine: two threads of one stage would wait for each other
        (16, 15.8, False, (2, 8)),
        (16, 4.1, False, (2, 2)),
        (1, 1.0, False, (1, None)),
        (16, 16.0, True, (1, None)),
    ],
)
def test_how_many_at_a_time(stages: Any, cores: int, free: float, gpu: bool, chosen: tuple[int, int | None]):
    assert stages.choose_lanes(cores, free, gpu) == chosen
