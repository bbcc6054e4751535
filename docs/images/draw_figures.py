"""Draw the pictures of docs/concepts.md as SVG, in colours that follow the reader's, light or dark.

python docs/images/draw_figures.py
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent

# The colours of the report. The site puts its own reader's choice of light or dark over them.
STYLE = """\
.hf-figure { --ink: #1f2937; --muted: #5b6472; --line: #8c95a3;
  --edge: #0072b2; --cloud: #d55e00; --edge-tint: #edf6fc; --cloud-tint: #fef3eb; --tint: #f6f7f9; }
@media (prefers-color-scheme: dark) { .hf-figure {
  --ink: #e6eaf0; --muted: #9aa5b4; --line: #8c95a3;
  --edge: #56b4e9; --cloud: #ff9d5c; --edge-tint: #12283a; --cloud-tint: #38230f;
  --tint: #1c222b; } }
.hf-figure text { font: 14px system-ui, sans-serif; fill: var(--ink); }
.hf-figure .small { font-size: 12px; fill: var(--muted); }
.hf-figure .box { fill: var(--tint); stroke: var(--line); stroke-width: 1.2; }
.hf-figure .edge { fill: var(--edge-tint); stroke: var(--edge); stroke-width: 1.6; }
.hf-figure .cloud { fill: var(--cloud-tint); stroke: var(--cloud); stroke-width: 1.6; }
.hf-figure .line { fill: none; stroke: var(--line); stroke-width: 1.4; }
.hf-figure .back { stroke-dasharray: 5 4; }
.hf-figure .tip { fill: var(--line); }"""

BOX_HEIGHT = 46
LINE_HEIGHT = 15


@dataclass
class Figure:
    """A picture that is put together from boxes, texts and arrows; all measures in pixels.

    Args:
        name: Of the file, without its ending.
        title: What it shows, for those who do not see it.
        width: As wide as it is drawn.
        height: As high.
    """

    name: str
    title: str
    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def box(self, x: int, y: int, width: int, text: str, *, kind: str = "box") -> None:
        """Draw a box with a text in its middle; a second line is smaller."""
        first, _, second = text.partition("\n")
        self.parts.append(
            f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{BOX_HEIGHT}" rx="7"/>'
        )
        middle, centre = x + width // 2, y + BOX_HEIGHT // 2 + 5
        self.text(middle, centre - (8 if second else 0), first, anchor="middle")
        if second:
            self.text(middle, centre + 10, second, anchor="middle", small=True)

    def text(
        self, x: int, y: int, text: str, *, anchor: str = "start", small: bool = False
    ) -> None:
        """Write a line."""
        kind = ' class="small"' if small else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" text-anchor="{anchor}"{kind}>{html.escape(text)}</text>'
        )

    def arrow(self, *points: tuple[int, int], back: bool = False) -> None:
        """Draw an arrow along these points."""
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        kind = "line back" if back else "line"
        self.parts.append(f'<path class="{kind}" d="{path}" marker-end="url(#{self.name}-tip)"/>')

    def save(self) -> None:
        """Write the file."""
        tip = (
            f'<defs><marker id="{self.name}-tip" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="8" markerHeight="8" orient="auto">'
            '<path class="tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>'
        )
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="hf-figure" role="img" '
            f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'aria-label="{html.escape(self.title)}">'
        )
        text = "\n".join([opening, f"<style>\n{STYLE}\n</style>", tip, *self.parts, "</svg>\n"])
        (HERE / f"{self.name}.svg").write_text(text, encoding="utf-8")


def plan() -> Figure:
    """Draw how a question becomes an answer."""
    figure = Figure(
        "concept-plan", "A question, its plan of five subtasks, and the answer", 800, 212
    )
    figure.box(8, 83, 96, "Question")
    figure.box(146, 83, 106, "Plan\nedge model")
    figure.box(294, 83, 110, "1 explain\nedge", kind="edge")
    figure.box(446, 12, 110, "2 analyze\nedge", kind="edge")
    figure.box(446, 83, 110, "3 analyze\ncloud", kind="cloud")
    figure.box(446, 154, 110, "4 analyze\nedge", kind="edge")
    figure.box(598, 83, 110, "5 generate\ncloud", kind="cloud")
    figure.arrow((104, 106), (144, 106))
    figure.arrow((252, 106), (292, 106))
    for y in (35, 106, 177):
        figure.arrow((404, 106), (444, y))
        figure.arrow((556, y), (596, 106))
    figure.arrow((708, 106), (740, 106))
    figure.text(744, 111, "Answer")
    return figure


def waves() -> Figure:
    """Draw the same plan run by supersteps and in one wave."""
    title = "The same four subtasks: 16 seconds when C waits for B, 12 when it waits for A only"
    figure = Figure("concept-waves", title, 800, 318)
    bars = {
        "A node for each subtask, an edge for each dependency: C waits for its whole layer": (
            [
                ("A", 0, 2, 0),
                ("B", 0, 6, 1),
                ("C, needs A", 6, 6, 0),
                ("D, needs B and C", 12, 4, 1),
            ]
        ),
        "One wave: each subtask starts when what it needs is there": (
            [("A", 0, 2, 0), ("B", 0, 6, 1), ("C, needs A", 2, 6, 0), ("D, needs B and C", 8, 4, 1)]
        ),
    }
    left, second = 12, 46
    for number, (said, tasks) in enumerate(bars.items()):
        top = 22 + number * 142
        figure.text(left, top, said)
        for name, start, length, row in tasks:
            x, y = left + start * second, top + 14 + row * 50
            kind = "cloud" if name.startswith(("B", "C")) else "edge"
            figure.box(x, y, length * second - 4, name, kind=kind)
        end = max(start + length for _, start, length, _ in tasks)
        figure.text(left + end * second + 6, top + 92, f"{end} s", small=True)
    figure.text(left, 306, "Blue: the edge. Orange: the cloud.", small=True)
    return figure


def call() -> Figure:
    """Draw what happens to one call."""
    figure = Figure(
        "concept-call", "What happens to a call, from its request to its booking", 800, 250
    )
    figure.box(8, 30, 128, "Can it?\nprofiles of both tiers")
    figure.box(170, 30, 118, "May it?\npolicy")
    figure.box(322, 30, 128, "Is it worth it?\nrouter, at a price")
    figure.box(484, 10, 130, "Reserve\nthe worst case")
    figure.box(648, 10, 130, "Cloud answers", kind="cloud")
    figure.box(484, 110, 130, "Edge answers", kind="edge")
    figure.box(648, 110, 130, "Will it do?\nverify")
    figure.box(484, 196, 294, "Book what it cost; write the record")
    for x in (136, 288):
        figure.arrow((x, 53), (x + 32, 53))
    figure.arrow((450, 46), (482, 33))
    figure.arrow((450, 60), (482, 124))
    figure.arrow((614, 33), (646, 33))
    figure.arrow((549, 56), (549, 108), back=True)
    figure.text(543, 84, "does not fit", anchor="end", small=True)
    figure.arrow((614, 133), (646, 133))
    figure.arrow((700, 110), (700, 94), (600, 94), (600, 60), back=True)
    figure.text(692, 86, "no", anchor="end", small=True)
    figure.arrow((713, 156), (713, 194))
    figure.arrow((778, 33), (790, 33), (790, 219), (780, 219))
    figure.text(706, 180, "yes", anchor="end", small=True)
    return figure


def learning() -> Figure:
    """Draw the loop of learning."""
    figure = Figure("concept-learning", "Profile, train, tune, serve, learn online, gate", 800, 196)
    steps = ("Profile\nask both tiers", "Train\nforesee both", "Tune\nhow much gain")
    steps += ("Gate\nfrozen questions", "Serve\ndecide each call", "Log\nand rewards")
    lefts = [8 + number * 134 for number in range(len(steps))]
    for x, text in zip(lefts, steps, strict=True):
        figure.box(x, 14, 112, text)
        if x != lefts[0]:
            figure.arrow((x - 22, 37), (x - 2, 37))
    serve, log = lefts[4], lefts[5]
    figure.box(serve, 112, 112, "Learn online\na correction")
    figure.box(log, 112, 112, "Has it drifted?")
    figure.arrow((log + 20, 60), (serve + 92, 110))
    figure.arrow((serve + 40, 112), (serve + 40, 62))
    figure.arrow((log + 56, 60), (log + 56, 110))
    figure.arrow((log + 56, 158), (log + 56, 180), (64, 180), (64, 62), back=True)
    figure.text(400, 174, "then profile again", anchor="middle", small=True)
    return figure


def main() -> None:
    """Draw all of them."""
    for figure in (plan(), waves(), call(), learning()):
        figure.save()


if __name__ == "__main__":
    main()
