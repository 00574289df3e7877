import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from skimage import data

from tenshot.datamodules import FewShot
from tenshot.datamodules.reading import read_image
from tenshot.errors import InputError

SORTED = ["astronaut.jpg", "camera.bmp", "cat.webp", "coffee.PNG", "more/rocket.jpeg"]


def images(module: FewShot) -> torch.Tensor:
    module.setup("fit")
    return module.train_source.read(range(len(module.train_source)))["image"]


def pixels(photos: Path, names: list[str]) -> torch.Tensor:
    return torch.stack([read_image(photos / name, 32) for name in names])


def chosen(photos: Path, module: FewShot) -> list[str]:
    """Which of the photographs these are."""
    everything = pixels(photos, SORTED)
    return [SORTED[int((everything == image).flatten(1).all(1).nonzero().item())] for image in images(module)]


def complaint(**options: object) -> str:
    with pytest.raises(InputError) as caught:
        FewShot(**({"image_size": 32} | options)).setup("fit")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_images_are_taken_by_default(photos: Path):
    assert chosen(photos, FewShot(str(photos), image_size=32)) == SORTED


def test_shots_are_drawn_by_the_seed_alone(photos: Path):
    def draw(seed: int, shots: int = 3) -> list[str]:
        return chosen(photos, FewShot(str(photos), shots=shots, seed=seed, image_size=32))

    assert draw(0) == draw(0)
    assert all(len(set(draw(seed))) == 3 for seed in range(4))
    assert len({tuple(draw(seed)) for seed in range(6)}) > 1
    assert set(draw(1, 2)) < set(draw(1, 4))


def test_named_shots_come_in_the_order_given(photos: Path):
    names = ["more/rocket.jpeg", "astronaut.jpg"]
    assert chosen(photos, FewShot(str(photos), names=names, image_size=32)) == names


def test_a_list_of_files_will_do(photos: Path):
    files = [str(photos / name) for name in ("coffee.PNG", "cat.webp")]
    assert chosen(photos, FewShot(files, image_size=32)) == ["coffee.PNG", "cat.webp"]
    assert chosen(photos, FewShot(files, names=["cat.webp"], image_size=32)) == ["cat.webp"]


def test_the_shots_stay_in_memory(photos: Path, tmp_path: Path):
    for name in ("a.png", "b.png"):
        Image.fromarray(data.coffee()).save(tmp_path / name)
    module = FewShot(str(tmp_path), image_size=32, batch_size=3)
    module.setup("fit")
    (tmp_path / "a.png").unlink()
    assert next(iter(module.train_dataloader()))["image"].shape == (3, 3, 32, 32)


def test_validation_images_come_from_their_own_folder(photos: Path):
    module = FewShot(str(photos), shots=2, val_root=str(photos / "more"), image_size=32)
    (batch,) = module.val_dataloader()
    torch.testing.assert_close(batch["image"], pixels(photos, ["more/rocket.jpeg"]))


def test_a_single_image_needs_to_be_asked_for(photos: Path):
    message = complaint(root=str(photos / "more"))
    assert "single image (rocket.jpeg)" in message
    assert "--data.shots 1" in message
    assert len(images(FewShot(str(photos / "more"), shots=1, image_size=32))) == 1
    assert len(images(FewShot(str(photos), names=["cat.webp"], image_size=32))) == 1


def test_the_log_says_what_was_found(photos: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        FewShot(str(photos), shots=3, seed=7, image_size=32).setup("fit")
    (line,) = [record.message for record in caplog.records if "FewShot" in record.message]
    assert f"3 of 5 images in {photos}" in line
    assert "32 x 32" in line
    assert "seed 7" in line


def test_what_the_folder_cannot_give(photos: Path, tmp_path: Path):
    assert all(
        word in complaint(root=str(tmp_path / "gone"))
        for word in (f"{tmp_path}/gone does not exist", "set --data.root")
    )
    assert "is a file" in complaint(root=str(photos / "cat.webp"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    assert f"{tmp_path}/empty holds no images" in complaint(root=str(tmp_path / "empty"))
    assert "--data.root is an empty list" in complaint(root=[])
    assert f"{tmp_path}/gone does not exist" in complaint(root=str(photos), val_root=str(tmp_path / "gone"))
    message = complaint(root=str(photos), shots=6)
    assert f"{photos} holds 5" in message
    assert "at most 5" in message
    assert "--data.shots is 0" in complaint(root=str(photos), shots=0)
    assert "drop one" in complaint(root=str(photos), shots=1, names=["cat.webp"])


def test_names_that_do_not_fit(photos: Path):
    message = complaint(root=str(photos), names=["astronaut.jpeg"])
    assert "'astronaut.jpeg', which is not in" in message
    assert "did you mean 'astronaut.jpg'?" in message
    assert "more than once" in complaint(root=str(photos), names=["cat.webp", "cat.webp"])
    assert "empty list" in complaint(root=str(photos), names=[])


def test_a_broken_shot_is_named_before_training(photos: Path, tmp_path: Path):
    (tmp_path / "fine.jpg").write_bytes((photos / "astronaut.jpg").read_bytes())
    (tmp_path / "torn.jpg").write_bytes((photos / "astronaut.jpg").read_bytes()[:5000])
    assert f"{tmp_path}/torn.jpg cannot be read" in complaint(root=str(tmp_path))
    assert "torn.jpg" in complaint(root=[str(tmp_path / "fine.jpg"), str(tmp_path / "torn.jpg")])
    assert "missing.jpg" in complaint(root=[str(tmp_path / "fine.jpg"), str(tmp_path / "missing.jpg")])


@pytest.mark.parametrize("value", ["{folder}", '["{folder}/cat.webp", "{folder}/astronaut.jpg"]'])
def test_the_command_line_can_say_folder_or_files(photos: Path, value: str):
    parser = ArgumentParser()
    parser.add_subclass_arguments(FewShot, "data")
    name = f"{FewShot.__module__}.FewShot"
    arguments = [f"--data={name}", "--data.root", value.format(folder=photos), "--data.image_size=32"]
    module = parser.instantiate(parser.parse_args(arguments)).data
    assert len(images(module)) == (5 if value == "{folder}" else 2)


def test_images_are_resized_by_the_convention_asked_for(tmp_path: Path):
    """Lanczos as CDC, held against Pillow; shots and validation images alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 70, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    whole = image.resize((32 * 70 // 48, 32), Image.Resampling.LANCZOS)
    left = round((whole.width - 32) / 2)
    expected = torch.from_numpy(np.array(whole.crop((left, 0, left + 32, 32)))).permute(2, 0, 1)
    for convention in ("cdc", "adm"):
        data = FewShot(str(tmp_path), shots=1, image_size=32, val_root=str(tmp_path), convention=convention)
        for source in data.sources():
            assert source is not None
            assert torch.equal(source.read([0])["image"][0], expected) == (convention == "cdc")
