"""Variants in processes of their own that take steps in turn, watched for what else the machine does."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

BUSY_LIMIT = 0.1
"""Share of the machine that others may take of a step, before its round is dropped."""

PATIENCE = 4
"""How many times the rounds wanted are tried for."""


@dataclass(frozen=True)
class Variant:
    """A process: its name in the table, and the words after ``variants.py``."""

    name: str
    words: list[str]


@dataclass(frozen=True)
class Contest:
    """Variants of one task; the first is what the others are compared with."""

    task: str
    precision: str
    variants: list[Variant]


@dataclass
class Outcome:
    """What the processes said.

    Args:
        rounds: Of each round each variant's cost of a step, with ``others``, the share that other processes took.
        summaries: What each process said at its end.
    """

    rounds: list[dict[str, dict[str, float]]]
    summaries: dict[str, dict[str, Any]]

    def quiet(self) -> list[dict[str, dict[str, float]]]:
        """The rounds in which nothing else ran."""
        return [costs for costs in self.rounds if all(cost["others"] <= BUSY_LIMIT for cost in costs.values())]


class Server:
    """A variant's process, started and warm."""

    def __init__(self, variant: Variant, threads: int) -> None:
        # threads that wait must not burn the core that another process is measured on
        limits = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.variants", *variant.words, "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | limits,
        )  # fmt: skip
        self.read()

    def read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(self.process.args[1:])} ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, word: str) -> dict[str, Any]:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.read()

    def step(self) -> dict[str, float]:
        """One step's cost, and the share of the machine that others took meanwhile."""
        before = busy_seconds()
        cost = self.ask("step")
        others = busy_seconds() - before - cost["cpu_seconds"]
        return cost | {"others": max(0.0, others) / (cost["seconds"] * os.cpu_count())}


def busy_seconds() -> float:
    """Time that all processors together were not idle since the machine started."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def hold(contest: Contest, wanted: int, threads: int) -> Outcome:
    """Take turns, in alternating order, until enough rounds were quiet."""
    servers = {variant.name: Server(variant, threads) for variant in contest.variants}
    outcome = Outcome([], {})
    while len(outcome.quiet()) < wanted and len(outcome.rounds) < PATIENCE * wanted:
        order = list(servers) if len(outcome.rounds) % 2 == 0 else list(reversed(servers))
        outcome.rounds.append({name: servers[name].step() for name in order})
        shown = ", ".join(f"{name} {cost['seconds']:.2f} s" for name, cost in sorted(outcome.rounds[-1].items()))
        print(f"  {len(outcome.rounds)}: {shown}; {len(outcome.quiet())} quiet rounds", file=sys.stderr)
    for name, server in servers.items():
        outcome.summaries[name] = server.ask("quit")
        server.process.wait()
    return outcome
