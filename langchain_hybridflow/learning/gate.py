"""May this router go into service? Tests on questions whose outcomes are beyond doubt.

Training data that grow while a router is in service (thumbs, verifiers, other people's profiles)
can be poisoned: labels that are wrong on purpose, so that more goes to the cloud, or the wrong
things do. A frozen set, which no user can write to, tells. Whoever poisons labels of questions
that are unlike all of the frozen set goes unnoticed.

Four kinds of test, each of which can refuse a router:

- *order*: the gain foreseen puts the questions into a better order than chance does;
- *incumbent*: that order is no worse than that of the router in service;
- *edge*, *cloud*: the tiers are as good as they are foreseen to be, on average;
- *gain*: so is their difference, also within each tag and in each fifth of the gains foreseen.

The others than *order* refuse a router whose predictions are right to within the margins of `Gate`
with a probability of at most about `alpha` (Bonferroni). One that was trained on a few hundred
rows may be further off without any poison. *order* asks for a proof, and one that knows little has
to bring many questions: with an APGR of 0.70 about 500, with 0.60 about 1,000, with 0.55 more than
3,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.dataset import Dataset
from langchain_hybridflow.learning.evaluation import group_draws
from langchain_hybridflow.learning.metrics import apgr
from langchain_hybridflow.learning.predictor import TrainedPredictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Rows = NDArray[np.signedinteger[Any]]

__all__ = ["FEWEST_ROWS", "Gate", "GateReport", "GateTest", "check_gate"]

FEWEST_ROWS: Final = 200
"""The smallest frozen set that a router is tested on."""

_FEWEST_OF_TAG: Final = 50
_FIFTHS: Final = 5
_DRAWS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How strict a gate is.

    Args:
        alpha: Probability in 0..1 of refusing by chance.
        most_bias: How far a mean may be from what was foreseen, beyond what chance explains, in
            0..1.
        most_bias_of_part: The same of a tag or a fifth, of which a router has seen less.
        most_loss: How much worse the order may be than the incumbent's, in APGR.
        seed: Seed of the resampling.

    Raises:
        ConfigurationError: A number is out of its range.
    """

    alpha: float = 0.01
    most_bias: float = 0.03
    most_bias_of_part: float = 0.08
    most_loss: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise ConfigurationError(f"alpha must be between 0 and 1, got {self.alpha!r}.")
        for name in ("most_bias", "most_bias_of_part", "most_loss"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigurationError(f"{name} must be in 0..1, got {value!r}.")


@dataclass(frozen=True, slots=True)
class GateTest:
    """What one test found.

    Attributes:
        name: "order", "incumbent", "edge", "cloud", "gain", "gain of TAG" or "gain, fifth N".
        value: What was measured.
        bound: What it must not pass.
        passed: Whether it does not.
        message: The finding in words.
    """

    name: str
    value: float
    bound: float
    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class GateReport:
    """What all tests found.

    Attributes:
        tests: One for each test that could be made.
        rows: Questions they were made on.
    """

    tests: tuple[GateTest, ...]
    rows: int

    @property
    def passed(self) -> bool:
        """Whether the router may go into service."""
        return all(test.passed for test in self.tests)

    @property
    def refusals(self) -> tuple[GateTest, ...]:
        """The tests that speak against it."""
        return tuple(test for test in self.tests if not test.passed)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        tests = [asdict(test) for test in self.tests]
        return {"passed": self.passed, "rows": self.rows, "tests": tests}


def check_gate(
    candidate: TrainedPredictor,
    frozen: Dataset,
    *,
    incumbent: TrainedPredictor | None = None,
    gate: Gate | None = None,
) -> GateReport:
    """Test a router on questions whose outcomes are beyond doubt.

    Args:
        candidate: The router that is to go into service.
        frozen: Such questions; neither router may have been trained on them.
        incumbent: The router that is in service.
        gate: How strict to be.

    Raises:
        ConfigurationError: There are fewer than 200 questions, or one tier is not better than the
            other on them, so that there is nothing to route for.
    """
    if len(frozen) < FEWEST_ROWS:
        raise ConfigurationError(
            f"A frozen set of {len(frozen)} questions tells too little: give at least "
            f"{FEWEST_ROWS}, whose outcomes you trust."
        )
    if apgr(frozen.edge, frozen.edge, frozen.cloud) is None:
        raise ConfigurationError(
            "On the frozen set the cloud is not better than the edge: there is nothing to route "
            "for, and nothing to test."
        )
    how = gate or Gate()
    found = candidate.foresee(frozen.questions, structure=frozen.structure)
    old = None
    if incumbent is not None:
        old = incumbent.foresee(frozen.questions, structure=frozen.structure).gain
    means = list(_means(found, frozen))
    deviations = NormalDist().inv_cdf(1.0 - how.alpha / (len(means) + 2) / 2.0)
    tests = [*_orders(found.gain, old, frozen, how, deviations)]
    tests += [_bias(name, rows, left, frozen, how, deviations) for name, rows, left in means]
    return GateReport(tuple(tests), len(frozen))


def _means(found: Any, data: Dataset) -> Iterator[tuple[str, Rows, Numbers]]:
    """Yield what is to be as foreseen on average: a name, the rows, and their residuals."""
    import numpy as np

    every = np.arange(len(data))
    residuals = (data.cloud - data.edge) - found.gain
    yield "edge", every, data.edge - found.p_edge
    yield "cloud", every, data.cloud - found.p_cloud
    yield "gain", every, residuals
    for number, rows in enumerate(np.array_split(np.argsort(found.gain, kind="stable"), _FIFTHS)):
        yield f"gain, fifth {number + 1}", rows, residuals[rows]
    if data.tags is None:
        return
    tags = np.array(data.tags)
    names, counts = np.unique(tags, return_counts=True)
    for name in names[(counts >= _FEWEST_OF_TAG) & (names != "")]:
        rows = np.flatnonzero(tags == name)
        yield f"gain of {name}", rows, residuals[rows]


def _bias(
    name: str, rows: Rows, residuals: Numbers, data: Dataset, gate: Gate, deviations: float
) -> GateTest:
    """Test whether residuals are 0 on average; questions of one group count as one draw."""
    import numpy as np

    mean = float(residuals.mean())
    _, groups = np.unique(np.array(data.groups)[rows], return_inverse=True)
    sums = np.bincount(groups, weights=residuals - mean)
    error = sqrt(float(sums @ sums)) / len(residuals)
    most = gate.most_bias if len(rows) == len(data) else gate.most_bias_of_part
    bound = most + deviations * error
    passed = abs(mean) <= bound
    way = "better" if mean > 0 else "worse"
    what = {"edge": "the edge", "cloud": "the cloud"}.get(name, f"the {name}")
    words = f"{what} is {abs(mean):.3f} {way} than foreseen on {len(residuals):,} questions"
    return GateTest(name, mean, bound, passed, f"{words}; up to {bound:.3f} would pass")


def _orders(
    gains: Numbers, old: Numbers | None, data: Dataset, gate: Gate, deviations: float
) -> Iterator[GateTest]:
    """Test the order of the questions, against chance and against the router in service."""
    import numpy as np

    areas = _areas([gains] if old is None else [gains, old], data, gate.seed)
    area = areas[0, 0]
    low = float(area - deviations * np.std(areas[1:, 0]))
    words = f"APGR is {area:.3f}, and surely above {low:.3f}; a router that draws lots has 0.5"
    if low <= 0.5 < area:
        words += "; a larger frozen set may prove that it is better than that"
    yield GateTest("order", float(area), 0.5, low > 0.5, words)
    if old is None:
        return
    loss = float(areas[0, 1] - area)
    bound = gate.most_loss + deviations * float(np.std(areas[1:, 1] - areas[1:, 0]))
    words = f"APGR is {-loss:+.3f} beside the {areas[0, 1]:.3f} of the router in service"
    yield GateTest("incumbent", loss, bound, loss <= bound, f"{words}; -{bound:.3f} would pass")


def _areas(gains: list[Numbers], data: Dataset, seed: int) -> Numbers:
    """Return APGR of each router: first on all rows, then with groups drawn with replacement."""
    import numpy as np

    draws = [np.arange(len(data)), *group_draws(data, draws=_DRAWS, seed=seed)]
    found = [
        [apgr(gain[rows], data.edge[rows], data.cloud[rows]) for gain in gains] for rows in draws
    ]
    return np.array([one for one in found if None not in one], dtype=float)
