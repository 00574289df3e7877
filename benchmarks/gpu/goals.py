"""What was wanted of the GPU, beside what was reached."""

from benchmarks.gpu.results import Results, Row

SHARE, AGAINST_OFFICIAL, AGAINST_NVLABS, ADAPTATION = 0.4, 2.5, 1.0, 1.36
MISSING = "not measured"
PUBLISHED = "DDPM-PA, 3 compared"
PLAIN_STEPS = (("unet256", "eager"), ("unet256", "eager again"), ("adaptation", "DDPM"), ("compiled", "eager"))
"""Rows of the same step in bf16, batch 8, of several processes."""


def goals(results: Results) -> list[list[str]]:
    """Rows of a table: the goal, what was reached, whether that is enough."""
    return [share(results), official(results), nvlabs(results), adaptation(results)]


def verdict(reached: bool | None) -> str:
    """In a word."""
    return "" if reached is None else "reached" if reached else "**missed**"


def share(results: Results) -> list[str]:
    """Of the measured matrix rate, by every process of that run that measured the step: the host may limit some."""
    rate = results.find("unet256", "matrix rate")
    found = {}
    for name, rows in (("eager", PLAIN_STEPS), ("compiled", [("compiled", "compiled")])):
        steps = [row for stage, step in rows if (row := results.find(stage, step)) and row.get("tflops")]
        if rate and (shares := [row["tflops"] / rate["tflops"] for row in steps if same_run(row, rate)]):
            found[name] = (min(shares), max(shares), len(shares))
    said = ", ".join(f"{name} {spread(*shares)}" for name, shares in found.items()) or MISSING
    least, most = (max((shares[i] for shares in found.values()), default=None) for i in (0, 1))
    word = "" if least is None else "reached in part" if least < SHARE <= most else verdict(most >= SHARE)
    return [f"256 px U-Net, bf16: at least {SHARE:.0%} of the measured matrix rate", said, word]


def spread(least: float, most: float, count: int) -> str:
    """Of one number, or of several of the same."""
    return f"{most:.1%}" if count == 1 else f"{least:.1%} to {most:.1%} in {count} measurements"


def same_run(one: Row, other: Row) -> bool:
    """Whether two rows are of one run of the command, on one machine."""
    return one.get("run") == other.get("run")


def an_image(results: Results, stage: str, name: str) -> float | None:
    """Milliseconds of an image: of published code the batch may have to be smaller."""
    ms, batch = results.number(stage, name), results.number(stage, name, "batch")
    return ms / batch if ms and batch else None


def official(results: Results) -> list[str]:
    """Times as fast as the official float16."""
    goal = f"at least {AGAINST_OFFICIAL} times as fast as openai/guided-diffusion in float16"
    theirs = an_image(results, "unet256", "official float16")
    mine = {"eager": an_image(results, "unet256", "eager"), "compiled": an_image(results, "compiled", "compiled")}
    ratios = {name: theirs / ms for name, ms in mine.items() if ms and theirs}
    said = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()) or MISSING
    return [goal, said, verdict(max(ratios.values()) >= AGAINST_OFFICIAL if ratios else None)]


def nvlabs(results: Results) -> list[str]:
    """StyleGAN2's amortised iteration against theirs: reduced precision with reduced precision."""
    goal = "StyleGAN2: at least the speed of NVlabs/stylegan2-ada-pytorch with its CUDA extensions"
    theirs = [row for name in ("NVlabs float16", "NVlabs float16, TF32") if (row := results.find("stylegan2", name))]
    mine = {name: ms for name in ("bf16", "float16") if (ms := results.number("stylegan2", name))}
    if not theirs or not mine:
        return [goal, MISSING, ""]
    best = min(theirs, key=lambda row: row["ms"])
    ratios = {name: best["ms"] / ms for name, ms in mine.items()}
    said = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()) + f" times {best['name']}"
    if not best.get("extensions"):
        return [goal, f"{said}, which ran without its extensions (see below)", "not comparable"]
    if any(not same_run(best, row) for name in mine if (row := results.find("stylegan2", name))):
        return [goal, f"{said}, which was measured in another run", "not decided"]
    return [goal, said, verdict(max(ratios.values()) >= AGAINST_NVLABS)]


def adaptation(results: Results) -> list[str]:
    """DDPM-PA's step over the plain one's."""
    goal = f"DDPM-PA's step takes at most {ADAPTATION} times as long as a plain one"
    plain = results.number("adaptation", "DDPM")
    names = {"all images compared": "DDPM-PA, all compared", "3 compared as published": PUBLISHED}
    ratios = {said: ms / plain for said, name in names.items() if plain and (ms := results.number("adaptation", name))}
    said = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in ratios.items()) or MISSING
    authors, mine = (an_image(results, "adaptation", name) for name in ("authors' code, float16", PUBLISHED))
    if authors and mine:
        said += f"; {authors / mine:.2f} times as fast as its authors' code in float16"
    return [goal, said, verdict(max(ratios.values()) <= ADAPTATION if ratios else None)]
