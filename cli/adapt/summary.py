"""What an adaptation says before it begins and when it has ended."""

from tenshot.cli.adapt.choice import Way
from tenshot.cli.adapt.commands import BEST, CRITERION, Plan, line_of
from tenshot.errors import InputError
from tenshot.reports import read_run
from tenshot.reports.stopping import Stopping, stopping_of

__all__ = ["choices", "results"]


def choices(plan: Plan, way: Way, told: bool, distances: dict[str, float]) -> list[tuple[str, str]]:
    """What was chosen, and why: a heading of a word, and the text.

    Args:
        plan: What is to be done.
        way: The method.
        told: Whether the user named the source.
        distances: How far the samples of each source are from the images, where it was chosen by that.
    """
    source, recipe = plan.source, plan.recipe
    why = "as you say" if told else f"the {source.kind.words} that comes with tenshot"
    if distances:
        far = ", ".join(f"{name} {distance:.2f}" for name, distance in distances.items())
        why = f"its samples are most like the images, by the cosine distance of features ({far})"
    other_size = (
        "" if recipe.size == source.size else f", whose numbers are for {recipe.size} px: --steps may need a change"
    )
    end = (
        f"ends after {plan.patience} that are no better"
        if plan.patience
        else "the best one counts, --patience 4 ends early"
    )
    return [
        ("source", f"{source.name}, {source.size} px: {why}"),
        ("method", f"{way.name}: {way.about}"),
        ("recipe", f"{recipe.path.parent.name}/{recipe.path.name}{other_size}"),
        ("steps", f"{plan.steps}, samples are looked at every {plan.every}: {end}"),
        ("output", str(plan.output)),
    ]


def results(plan: Plan) -> list[tuple[str, str]]:
    """Where everything is, and what the watch has seen.

    Raises:
        InputError: The run cannot be read, or kept no best step.
    """
    best, found = plan.output / BEST, stopping_of(read_run(plan.output))
    if found.best is None:
        raise InputError(f"{best}: not there, so no step could be kept: free space, and give another --output")
    last = (
        f"; the last one was the best, so more may help: --steps {2 * plan.steps}" if found.best == plan.steps else ""
    )
    more = ["predict", "--ckpt_path", str(best), "--images.count", "1000"]
    return [
        ("best", f"step {found.best} of {plan.steps}, by {CRITERION}: {best}{last}"),
        *_copies(found),
        ("grid", f"{plan.output / f'samples/step={found.best:08d}.png'}: the images, below them samples of that step"),
        ("samples", f"{plan.output / 'images'}: {plan.samples}; for more: {line_of(more)[2:]}"),
        ("page", f"{plan.output / 'comparison/index.html'}: measures, curves, samples beside the nearest images"),
    ]


def _copies(found: Stopping) -> list[tuple[str, str]]:
    if not found.watched:
        return [("copies", "of so few images nothing tells copies: look at the samples beside the nearest images")]
    if found.copying is None or found.best is None:
        return []
    if found.copying > found.best:
        return [("copies", f"from step {found.copying} on, after the best one: {found.shown_by}")]
    why = "more images, or a method that keeps more of the source, would help"
    return [("copies", f"samples of step {found.copying} are copies, so look at those of the best one: {why}")]
