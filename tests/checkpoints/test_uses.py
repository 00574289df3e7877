"""What a run depends on does not vanish: a source keeps the checkpoints that others recorded, or they are found."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from tenshot.callbacks import StepCheckpoint
from tenshot.checkpoints.runs import checkpoint_path
from tenshot.checkpoints.source import FrozenSource
from tenshot.checkpoints.uses import is_used, kept_if_used, note_path, note_use
from tenshot.datamodules import Samples
from tenshot.errors import InputError
from tenshot.lightning_modules import CDC, DDPM, DDPMPA, NoisyClassifier, StyleGAN2
from tenshot.lightning_modules.ddpm_pa import Pairwise
from tenshot.lightning_modules.guidance import ClassifierGuidance
from tenshot.models.pretrained import sha256

FILES = {step: torch.full((4,), float(step)) for step in (2, 4, 6)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A run with checkpoints of three steps."""
    for step, weights in FILES.items():
        path = checkpoint_path(tmp_path / "source", step)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"weights": weights}, path)
    return tmp_path / "source"


def resumed(given: Path, began_with: str) -> FrozenSource[nn.Module]:
    """The source of a run that began with the file of that hash, step 4's, and is resumed with another path."""
    source = FrozenSource[nn.Module](str(given), "DDPMPA")
    entry = {"path": "step=4.ckpt", "sha256": began_with}
    source.on_load_checkpoint(None, None, {"tenshot": {"source": entry}})  # type: ignore[arg-type]
    return source


def fit(folder: Path, module: Any, data: Any, steps: int, resume: Path | None = None, keep: int = 1) -> None:
    tiny.trainer(folder, steps, StepCheckpoint(1, keep)).fit(module, data, ckpt_path=resume)


def test_a_source_that_trains_on_keeps_what_adaptations_recorded(tmp_path: Path):
    run = tmp_path / "source"
    fit(run, tiny.ddpm(), tiny.faces(), 1)
    adapted = DDPMPA(init_from=str(run), preview_sampler=tiny.QUICK, optimizer=tiny.adam(), collapse_every_n_steps=0)
    fit(tmp_path / "adapted", adapted, tiny.faces(shots=5), 1)
    assert note_path(checkpoint_path(run, 1)).read_text() == f"{tmp_path / 'adapted'}\n"
    fit(run, tiny.ddpm(), tiny.faces(), 3, resume=checkpoint_path(run, 1))
    assert sorted(path.name for path in (run / "checkpoints").glob("*.ckpt")) == [
        "step=00000001.ckpt",
        "step=00000003.ckpt",
    ]


def test_so_does_a_gan_s(tmp_path: Path):
    run, data = tmp_path / "source", tiny.faces(image_size=32)
    fit(run, tiny.gan(), data, 1)
    fit(tmp_path / "cdc", tiny.gan(CDC, init_from=str(run)), tiny.faces(image_size=32, shots=5), 1)
    assert is_used(checkpoint_path(run, 1))


def runs_of_each_kind(run: Path) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """A source, and a method that begins with its run or is guided by it, both with no data yet."""
    start = {"init_from": str(run)}
    quick = {"optimizer": tiny.adam(), "sampler": tiny.QUICK, "preview_sampler": tiny.QUICK}
    guidance = ClassifierGuidance(str(run))
    return {
        "fine-tuning": (tiny.ddpm, lambda: DDPM(**start, **quick)),
        "a DDPM-PA that looks at no source": (tiny.ddpm, lambda: DDPMPA(pairwise=Pairwise(0, 0), **start, **quick)),
        "a classifier": (tiny.classifier, lambda: NoisyClassifier(**start, optimizer=tiny.adam())),
        "TGAN": (tiny.gan, lambda: StyleGAN2(**start)),
        "guidance": (tiny.classifier, lambda: DDPM(tiny.unet_config(), guidance=guidance, **quick)),
    }


@pytest.mark.parametrize("kind", list(runs_of_each_kind(Path())))
def test_so_does_that_of_any_run_that_began_with_it(tmp_path: Path, kind: str):
    run, user = tmp_path / "source", tmp_path / "user"
    source, method = runs_of_each_kind(run)[kind]
    gan = kind == "TGAN"
    data = tiny.faces(image_size=32 if gan else 16, labels=not gan)
    fit(run, source(), data, 1)
    tiny.trainer(tmp_path, 1, fast_dev_run=1).fit(method(), data)
    tiny.trainer(tmp_path, 1).predict(method(), Samples(1)) if "classifier" not in kind else None
    assert not is_used(checkpoint_path(run, 1))  # by no run
    fit(user, method(), data, 1)
    assert note_path(checkpoint_path(run, 1)).read_text() == f"{user}\n"
    fit(run, source(), data, 2, resume=checkpoint_path(run, 1))  # which keeps one checkpoint
    assert [path.stem for path in sorted((run / "checkpoints").glob("*.ckpt"))] == ["step=00000001", "step=00000002"]


def test_a_note_names_each_run_once_and_only_of_checkpoints_of_runs(source: Path, tmp_path: Path):
    for _ in range(2):
        for name in ("a", "b"):
            note_use(checkpoint_path(source, 2), tmp_path / name)
    assert note_path(checkpoint_path(source, 2)).read_text().splitlines() == [str(tmp_path / n) for n in ("a", "b")]
    assert not is_used(checkpoint_path(source, 4))
    public = tmp_path / "ffhq256.pt"
    public.touch()
    note_use(public, tmp_path / "a")
    note_use(Path("/proc/1/checkpoints/step=00000001.ckpt"), tmp_path / "a")  # where one may not write
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ffhq256.pt", "source"]


def test_what_nobody_recorded_is_written_over(tmp_path: Path):
    best = tmp_path / "best.ckpt"
    best.touch()
    kept_if_used(best)
    best.unlink()
    note_path(best).touch()  # of one that somebody deleted
    kept_if_used(best)
    assert [path.name for path in tmp_path.iterdir()] == [note_path(best).name]


def test_one_that_was_recorded_is_not_written_over(source: Path, tmp_path: Path):
    best = source / "checkpoints" / "best.ckpt"
    kept_if_used(best)
    for content in ("first", "second"):
        best.write_text(content)
        note_use(best, tmp_path / content)
        kept_if_used(best)
        assert not best.exists()
    for number, content in ((1, "first"), (2, "second")):
        kept = source / "checkpoints" / f"best.used-{number}.ckpt"
        assert kept.read_text() == content
        assert note_path(kept).read_text() == f"{tmp_path / content}\n"


@pytest.mark.parametrize("given", ["checkpoints/step=00000004.ckpt", ""])
@pytest.mark.parametrize("moved", ["checkpoints/best.used-1.ckpt", "checkpoints/abandoned-after-step=00000002/x.ckpt"])
def test_equal_weights_are_found_by_their_hash(source: Path, given: str, moved: str):
    """Where the file is gone, and where a folder is given whose newest checkpoint is another."""
    there = checkpoint_path(source, 4)
    digest = sha256(there)
    assert resumed(there, digest).file() == str(there)
    assert resumed(source, digest).file() == str(there)
    (source / moved).parent.mkdir(exist_ok=True)
    there.rename(source / moved)
    assert resumed(source / given, digest).file() == str(source / moved)


@pytest.mark.parametrize("given", ["checkpoints/step=00000004.ckpt", "", "nowhere/x.ckpt"])
def test_it_is_the_source_that_is_missing(source: Path, given: str):
    digest = sha256(checkpoint_path(source, 4))
    checkpoint_path(source, 4).unlink()
    with pytest.raises(InputError) as raised:
        resumed(source / given, digest).file()
    assert f"the source model of this adaptation is missing: step=4.ckpt (sha256 {digest[:12]}" in str(raised.value)
    assert str(raised.value).endswith("put it back, or give a copy of it with --model.source")


def test_a_file_that_was_written_over_is_looked_for_beside_it(source: Path):
    there = checkpoint_path(source, 4)
    adaptation = resumed(there, sha256(there))
    kept = Path(shutil.copy(there, source / "checkpoints" / "copy.ckpt"))
    shutil.copy(checkpoint_path(source, 2), there)
    assert adaptation.file() == str(kept)
    kept.unlink()
    assert adaptation.file() == str(there)  # which is refused, for its hash
