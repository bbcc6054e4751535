"""The model card of the default router, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_hybridflow.routing.default import DefaultArtefact

_HEAD = "| measured on | APGR | CPT50 / CPT80 | AUROC | ECE | cloud share | right |"


def card(artefact: DefaultArtefact) -> str:
    about, weights = artefact.manifest, artefact.weights
    metrics = about["metrics"]
    return "\n".join(
        [
            "# The default router",
            "",
            "<!-- made by: python benchmarks/default_router.py --data-dir DIR --write -->",
            "",
            *_USE.format(
                point=artefact.min_gain,
                words=len(weights.words),
                word=weights.word_reach,
                bound=weights.bound.gain,
                reach=weights.reach,
            ).splitlines(),
            "",
            *_data(about),
            "",
            "## What it reaches",
            "",
            *_RESULTS.splitlines(),
            "",
            "Learnt from the two other data sets:",
            "",
            *_table(metrics["other sets"], metrics["baselines"]),
            "",
            "Learnt from all three, measured on groups of questions that were held out:",
            "",
            *_table(metrics["same sets"], {}),
            "",
            *_difficulty(artefact),
            "",
            *_LIMITS.splitlines(),
            "",
        ]
    )


_USE = """\
`RoutedChatModel`, `HybridFlowGraph` and the command line use it when no router is given. It
foresees, before a call is made, what the cloud would add; the call goes there if that gain is above
{point:.2f} and, where the budget has a price, worth it.

- **A subtask of a plan** is judged by the planner's difficulty alone (table below): on sandbox
  subtasks role, length and place in the plan added nothing to it.
- **Any other text** is judged by {words:,} words, known by their CRC-32 hashes, and six facts:
  quantities, formal signs, a question mark at its end, words of reasoning, people, and its length
  up to 250 characters, which alone never decides. Beyond its first and last 1,000 characters
  nothing is read. Where no word is known (other languages) only the six facts count.
- **Bounds.** One more word changes what the words add to the gain by at most {word:.3f}, the same
  one again by nothing, and all words together by {bound:.2f}; two texts never differ by more than
  {reach:.2f}. Gains lie close together, though: a few words, chosen by somebody who knows this file
  and put before a question, send nearly any of them to the cloud. `CappedRouter` and the budget
  bound that.

`hybridflow router explain default "..."` takes a decision apart, and
`hybridflow router show default` shows the figures of this card."""

_RESULTS = """\
The first table is what to expect with models and questions of your own: it was learnt from the two
other data sets, so from other models and other kinds of questions. What it looks at, and how
heavily it is held back, was chosen on these figures, so they flatter it a little. APGR is
RouteLLM's (a router that draws lots has 0.5), CPT the share of cloud calls in % that recovers 50
and 80 % of the gap.
ECE is large where two models differ by more or less than others do: nobody can know beforehand.
"right" is the share of right answers: edge alone / at the shipped operating point / cloud alone."""

_LIMITS = """\
## Limits

- Outside of plans it is no better than going by length, but for data it has seen the like of; among
  questions of one kind it is hardly better than chance. It does not know your models.
  `hybridflow train` on a thousand of your own questions does better: [docs/router.md][1].
- It was learnt from English examination questions, trivia, word problems and short programming
  tasks, not from conversations.
- The table of difficulties comes from simulated models, the mean of three edges of different skill;
  where a planner rates otherwise, subtasks go elsewhere.
- It says nothing about safety or law. No row of the data is in the package; hashes of words that
  are frequent in two of the data sets are.

[1]: ../../../docs/router.md"""


def _data(about: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Learnt from",
        "",
        "| | rows | edge and cloud models | source | licence |",
        "|---|---|---|---|---|",
    ]
    for name, one in about["training_data"].items():
        rows = one["rows"] if isinstance(one["rows"], str) else f"{one['rows']:,}"
        pair = f"; measured on {one['measured on']}" if "measured on" in one else ""
        lines.append(
            f"| {name} | {rows} | {one['edges']} and {one['clouds']}{pair} | {one['source']} "
            f"| {one['licence']} |"
        )
    return [
        *lines,
        "",
        "What is learnt is the mean over these models; each data set counts alike.",
        f"sha256 of what was learnt from: `{about['training_data_sha256']}`.",
    ]


def _table(
    found: Mapping[str, Mapping[str, float]],
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> list[str]:
    lines = [_HEAD, "|---|---|---|---|---|---|---|"]
    for name, one in found.items():
        lines.append(
            f"| {name} | {one['apgr']:.3f} | {one['cpt50']:.1f} / {one['cpt80']:.1f} "
            f"| {one['auroc']:.3f} | {one['ece']:.3f} | {one['cloud_share']:.0%} "
            f"| {one['edge_accuracy']:.3f} / {one['accuracy']:.3f} / {one['cloud_accuracy']:.3f} |"
        )
        for rule, other in baselines.get(name, {}).items():
            lines.append(
                f"| - {rule} | {other['apgr']:.3f} | {other['cpt50']:.1f} / {other['cpt80']:.1f} "
                f"| {other['auroc']:.3f} | | | |"
            )
    mean = _mean(found.values(), "apgr")
    rules = [
        f"{rule} {_mean([one[rule] for one in baselines.values()], 'apgr'):.3f}"
        for rule in next(iter(baselines.values()), {})
    ]
    return [*lines, "", f"{', '.join([f'Mean APGR: {mean:.3f}', *rules])}."]


def _mean(found: Any, key: str) -> float:
    values: Sequence[float] = [one[key] for one in found]
    return sum(values) / len(values)


def _difficulty(artefact: DefaultArtefact) -> list[str]:
    pairs = artefact.weights.difficulty
    cells = [" | ".join(values) for values in (
        [str(level) for level in range(1, len(pairs) + 1)],
        [f"{pair.edge:.2f}" for pair in pairs],
        [f"{pair.edge + pair.gain:.2f}" for pair in pairs],
        ["**cloud**" if pair.gain > artefact.min_gain else "edge" for pair in pairs],
    )]  # fmt: skip
    return [
        "## Subtasks of a plan",
        "",
        f"| planned difficulty | {cells[0]} |",
        f"|---|{'---|' * len(pairs)}",
        f"| edge right | {cells[1]} |",
        f"| cloud right | {cells[2]} |",
        f"| goes to | {cells[3]} |",
    ]
