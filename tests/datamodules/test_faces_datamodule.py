import pytest
import torch
from jsonargparse import ArgumentParser

from tenshot.datamodules.faces import DOMAINS, FacesSource, face_attributes, face_labels, render, source
from tenshot.datamodules.pixels import from_pixels
from tenshot.datamodules.synthetic_faces import SyntheticFaces
from tenshot.errors import InputError


def indices(module: SyntheticFaces) -> tuple[list[int], list[int]]:
    """Those of the training and of the validation images."""
    train, val = module.train_source, module.val_source
    assert isinstance(train, FacesSource)
    assert isinstance(val, FacesSource)
    return list(train.indices), list(val.indices)


def complaint(**options: object) -> str:
    with pytest.raises(InputError) as caught:
        SyntheticFaces(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_training_validation_and_reference_share_no_image():
    for shots in (None, 10):
        module = SyntheticFaces(num_images=100, num_val=30, shots=shots)
        train, val = indices(module)
        assert len(train) == (shots or 100)
        assert len(val) == 30
        reference = set(module.reference(50).indices)
        assert len(reference) == 50
        assert not set(train) & set(val)
        assert not reference & {*range(100), *val}
    assert SyntheticFaces(num_val=0).val_source is None


def test_the_reference_is_any_stretch_of_the_same_domain():
    module = SyntheticFaces(domain="sunglasses", seed=2, image_size=16)
    heads = face_attributes(2, torch.arange(5, 8))
    assert torch.equal(module.reference(3, start=5).read(range(3))["image"], render("sunglasses", heads, 16))


def test_shots_are_drawn_by_the_seed_and_nested():
    def drawn(shots: int, seed: int) -> list[int]:
        return indices(SyntheticFaces(domain="babies", num_images=500, shots=shots, seed=seed))[0]

    ten = drawn(10, 1)
    assert len(set(ten)) == 10
    assert ten != list(range(10))
    assert ten == drawn(10, 1) == sorted(ten)
    assert ten != drawn(10, 2)
    assert set(ten) < set(drawn(20, 1))
    assert drawn(500, 1) == list(range(500))


def test_shots_keep_their_look_in_every_domain():
    chosen = {tuple(indices(SyntheticFaces(domain=domain, shots=7))[0]) for domain in DOMAINS}
    assert len(chosen) == 1


@pytest.mark.parametrize("kept_bytes", [0, 2**20])
def test_kept_or_not_images_are_the_same(monkeypatch: pytest.MonkeyPatch, kept_bytes: int):
    monkeypatch.setattr(source, "_KEPT_BYTES", kept_bytes)
    faces = FacesSource("faces", 0, range(40, 60), 16, labels=True, condition="mask")
    for rows in ([3, 1, 3], [19, 1, 4], [4], list(range(20))):
        heads = face_attributes(0, torch.tensor(rows) + 40)
        batch = faces.read(rows)
        assert torch.equal(batch["image"], render("faces", heads, 16))
        assert torch.equal(batch["label"], face_labels(heads))


def test_a_kept_image_is_drawn_once(monkeypatch: pytest.MonkeyPatch):
    drawn: list[int] = []

    def counting(domain: str, attributes: object, size: int) -> torch.Tensor:
        drawn.append(len(attributes))  # type: ignore[arg-type]
        return torch.zeros(len(attributes), 3, size, size, dtype=torch.uint8)  # type: ignore[arg-type]

    monkeypatch.setattr(source, "render", counting)
    faces = FacesSource("faces", 0, range(10), 16)
    for rows in ([0, 1, 1], [1, 2], [0, 1, 2]):
        faces.read(rows)
    assert drawn == [2, 1]


def test_what_is_read_may_be_written_to():
    faces = FacesSource("faces", 0, range(4), 16)
    before = faces.read([0])["image"].clone()
    faces.read([0])["image"].zero_()
    assert torch.equal(faces.read([0])["image"], before)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_carry_image_label_and_condition(num_workers: int):
    module = SyntheticFaces(
        image_size=16, batch_size=4, num_images=20, labels=True, condition="depth", num_workers=num_workers
    )
    batch = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    assert set(batch) == {"image", "condition"}
    assert set(batch["condition"]) == {"label", "depth"}
    assert batch["image"].shape == (4, 3, 16, 16)
    assert batch["condition"]["depth"].shape == (4, 1, 16, 16)
    for value in (batch["image"], batch["condition"]["depth"]):
        assert value.dtype == torch.float32
        assert value.min() >= -1
        assert value.max() <= 1
        assert value.min() < 0 < value.max()
    assert batch["condition"]["label"].dtype == torch.int64
    val = next(iter(module.val_dataloader()))  # type: ignore[call-overload]
    assert "flip" not in val


def test_a_mirrored_image_has_mirrored_normals():
    module = SyntheticFaces(image_size=16, num_images=8, condition="normal")
    batch = module.train_source.read([0, 0])
    plain = from_pixels(batch["normal"][0])
    moved = module.on_after_batch_transfer(batch | {"flip": torch.tensor([False, True])}, 0)
    same, turned = moved["condition"]["normal"]
    assert torch.equal(same, plain)
    assert torch.equal(turned, torch.stack([-plain[0], plain[1], plain[2]]).flip(-1))
    assert torch.equal(moved["image"][1], moved["image"][0].flip(-1))
    assert "flip" not in moved


def test_wrong_names_are_answered_with_the_nearest():
    assert "did you mean 'sunglasses'" in complaint(domain="sunglases")
    assert "did you mean 'depth'" in complaint(condition="dephts")
    assert "choose one of faces, sunglasses, babies, sketches, paintings" in complaint(domain="cats")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 15}, "--data.image_size is 15: choose at least 16"),
        ({"shots": 0}, "--data.shots is 0: choose 1 to 10000"),
        ({"shots": 11, "num_images": 10}, "--data.shots is 11: choose 1 to 10 "),
        ({"num_images": 0}, "--data.num_images is 0"),
        ({"num_val": -1}, "--data.num_val is -1"),
        ({"batch_size": 0}, "--data.batch_size is 0"),
    ],
)
def test_wrong_numbers_are_refused_at_once(options: dict[str, int], words: str):
    assert words in complaint(**options)


def test_every_option_has_a_help_text(capsys: pytest.CaptureFixture[str]):
    parser = ArgumentParser()
    parser.add_class_arguments(SyntheticFaces, "data")
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for option in ("domain", "image_size", "num_images", "shots", "num_val", "labels", "condition", "flip", "seed"):
        words = text.split(f"--data.{option} ")[-1].split("--data.")[0]
        assert len(words) > 30, option
