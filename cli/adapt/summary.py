"""What an adaptation says before it begins and when it has ended."""

from tenshot.cli.adapt.choice import Choice, Way
from tenshot.cli.adapt.commands import CRITERION, FEATURES, Plan, line_of
from tenshot.errors import InputError
from tenshot.reports import Run, read_run
from tenshot.reports.stopping import Stopping, stopping_of

__all__ = ["choices", "results"]

COPIES = f"nearest_dist_{FEATURES}_copies"


def choices(plan: Plan, way: Way, choice: Choice, told: bool) -> list[tuple[str, str]]:
    """What was chosen, and why: a heading of a word, and the text.

    Args:
        plan: What is to be done.
        way: The method.
        choice: Of the source.
        told: Whether the user named it.
    """
    source, recipe = plan.source, plan.recipe
    why = "as you say" if told else f"the {source.kind.words} that comes with tenshot"
    if choice.distances:
        far = ", ".join(f"{name} {distance:.2f}" for name, distance in choice.distances.items())
        why = f"its samples are most like the images, by the cosine distance of features ({far})"
    other_size = (
        "" if recipe.size == source.size else f", whose numbers are for {recipe.size} px: --steps may need a change"
    )
    if not plan.tells:
        end = (
            f"all are done and the last one counts: samples of the source are as near to the images as these are to "
            f"each other (nearness {choice.nearness:.2f}), so that cannot tell when to stop"
        )
    elif plan.patience is not None:
        end = f"ends after {plan.patience} that are worse than the best"
    else:
        end = "the best one counts, --patience 4 ends early"
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
    run = read_run(plan.output)
    found = stopping_of(run) if plan.tells else Stopping(best=plan.steps)
    if found.best is None:
        raise InputError(f"{plan.weights}: not there, no step was kept: free space, and give another --output")
    more = ["predict", "--ckpt_path", plan.weights, "--images.count", "1000"]
    step = f"step {found.best} of {plan.steps}"
    which = ("last", f"{step}: {plan.weights}")
    if plan.tells:
        more_steps = f"; the last one was the best, more may help: --steps {2 * plan.steps}"
        which = ("best", f"{step}, by {CRITERION}: {plan.weights}{more_steps if found.best == plan.steps else ''}")
    return [
        which,
        *(_copies(found) if plan.tells else _near(run)),
        ("grid", f"{plan.output / f'samples/step={found.best:08d}.png'}: the images, below them samples of that step"),
        ("samples", f"{plan.output / 'images'}: {plan.samples}; for more: {line_of(more)[2:]}"),
        ("page", f"{plan.output / 'comparison/index.html'}: measures, curves, samples beside the nearest images"),
    ]


def _near(run: Run) -> list[tuple[str, str]]:
    """How many samples of the last evaluation are copies by the distance of features alone."""
    shares = [evaluation["values"][COPIES] for evaluation in run.evaluations if COPIES in evaluation["values"]]
    return [("copies", f"{shares[-1]:.0%} of the samples are copies, by {COPIES}")] if shares else []


def _copies(found: Stopping) -> list[tuple[str, str]]:
    if not found.watched:
        return [("copies", "of so few images nothing tells copies: look at the samples beside the nearest images")]
    if found.copying is None or found.best is None:
        return []
    if found.copying > found.best:
        return [("copies", f"from step {found.copying} on, after the best one: {found.shown_by}")]
    why = "more images, or a method that keeps more of the source, would help"
    return [("copies", f"samples of step {found.copying} are copies, so look at those of the best one: {why}")]
