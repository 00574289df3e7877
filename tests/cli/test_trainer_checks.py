"""Options of the trainer that are refused before anything is built."""

import pytest

from tenshot.cli.trainer_checks import check_trainer
from tenshot.errors import InputError


@pytest.mark.parametrize("share", [0.5, 1.0, -1])
def test_a_share_of_a_stream_without_end_cannot_be_overfitted(share: float):
    """Lightning takes 1.0 for all batches, where 1 is the first."""
    with pytest.raises(InputError, match=rf"--trainer\.overfit_batches is {share}: .* give a number of micro-batches"):
        check_trainer({"overfit_batches": share})


@pytest.mark.parametrize("count", [None, 0.0, 0, 1, 3])
def test_numbers_of_batches_to_overfit(count: float | None):
    check_trainer({"overfit_batches": count})
