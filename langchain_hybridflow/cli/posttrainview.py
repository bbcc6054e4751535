"""What is seen of a post-training: a bar or lines while it runs, figures at its end."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from langchain_hybridflow.cli.display import dollars, one_line, screen
from langchain_hybridflow.cli.profilerun import RunView
from langchain_hybridflow.posttrain import share_of_rho

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID

    from langchain_hybridflow.posttrain import PosttrainResult, PosttrainSettings
    from langchain_hybridflow.posttrain.foreseeing import Foresight

__all__ = ["TrainingView", "figures_of", "quiet", "show_foresight", "show_result"]

# What a line says of the last step, in this order, as far as it is known.
_SHARES: Final = {
    "local_accuracy": "right by itself",
    "ask_rate": "asks",
    "overall_accuracy": "right with the cloud",
    "truncated_rate": "cut off",
}


class TrainingView(RunView):
    """One bar in a terminal; elsewhere a line for each step that is logged."""

    def __init__(self) -> None:
        super().__init__()
        self._task: TaskID | None = None
        self._total = 0

    def columns(self) -> tuple[ProgressColumn, ...]:
        """What the bar shows."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        return (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )

    def begin(self, step: int, total: int) -> None:
        """Show where the training starts."""
        self._total = total
        if self.bars is not None:
            self._task = self.bars.add_task("step", total=total, completed=step, note="")
        else:
            typer.echo(f"step {step} of {total}", err=True)

    def move(self, step: int) -> None:
        """Show that a step is done."""
        if self.bars is not None and self._task is not None:
            self.bars.update(self._task, completed=step)

    def follow(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Show what was measured in a step."""
        note = figures_of(metrics)
        if not note:
            return
        if self.bars is not None and self._task is not None:
            self.bars.update(self._task, completed=step, note=_brief(metrics))
        else:
            typer.echo(f"step {step} of {self._total}: {note}", err=True)

    def callback(self) -> Any:
        """Return what tells this view of the steps, for transformers' trainer."""
        from transformers import TrainerCallback

        view = self

        class Watcher(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                view.begin(state.global_step, state.max_steps)

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                view.move(state.global_step)

            def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                view.follow(state.global_step, more.get("logs") or {})

        return Watcher()


def _brief(metrics: Mapping[str, Any]) -> str:
    """Say what fits beside a bar in 80 columns."""
    shown = {"right": "local_accuracy", "asks": "ask_rate"}
    said = [f"{word} {metrics[name]:.0%}" for word, name in shown.items() if metrics.get(name)]
    return ", ".join([*said, f"cloud calls {metrics.get('cloud/bought') or 0:,.0f}"])


def figures_of(metrics: Mapping[str, Any]) -> str:
    """Say the figures of a step in one line; empty if there are none.

    Example:
        >>> figures_of({"local_accuracy": 0.25, "ask_rate": 0.5, "cloud/bought": 12.0})
        'right by itself 25.0%, asks 50.0%, cloud calls 12'
    """
    known = {name: value for name, value in metrics.items() if value is not None}
    said = [f"{words} {known[name]:.1%}" for name, words in _SHARES.items() if name in known]
    if "reward_mean" in known:
        said.append(f"reward {known['reward_mean']:.3f}")
    if "cloud/bought" in known:
        said.append(f"cloud calls {known['cloud/bought']:,.0f}")
    return ", ".join(said)


@contextmanager
def quiet() -> Iterator[None]:
    """Leave the screen to this program: the libraries have bars of their own, and talk of theirs.

    What TRL sets and transformers has a newer name for is not the user's to mend.
    """
    import warnings

    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* is deprecated and will be removed", FutureWarning)
            yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def show_foresight(found: Foresight, settings: PosttrainSettings, *, cloud: str | None) -> None:
    """Show what a training would do, and what it can cost."""
    console = screen()
    share = share_of_rho(settings.ratio)
    console.print(f"Model:     {one_line(settings.model)}, {_weights(settings)}", soft_wrap=True)
    console.print(f"Data:      {found.prompts:,} prompts, verifier {one_line(settings.verifier)}")
    console.print(
        f"Training:  {settings.method}, {settings.steps:,} steps of {settings.prompts_per_step} "
        f"prompts, {found.responses:,} responses in all"
    )
    if cloud is None:
        console.print("Cloud:     none is asked")
        return
    console.print(f"Cloud:     {one_line(cloud)}, for at most {share:.1%} of the prompts it keeps")
    console.print(
        f"Calls:     at most {found.calls:,}, each prompt once; {found.kept:,} answers are there "
        f"already"
    )
    limit = "" if settings.limit_usd is None else f" (the limit is {dollars(settings.limit_usd)})"
    console.print(f"Cost:      at most {dollars(found.usd)}, if each is as long as can be{limit}")


def _weights(settings: PosttrainSettings) -> str:
    if settings.lora is None:
        return "all weights"
    rank = settings.lora.get("r")
    return "adapters" if rank is None else f"adapters of rank {rank}"


def show_result(found: PosttrainResult, *, base: str) -> None:
    """Show what came out, where it is, and what to do with it."""
    console = screen()
    for line in _lines(found, base):
        console.print(line, soft_wrap=True)


def _lines(found: PosttrainResult, base: str) -> Iterator[str]:
    place = shlex.quote(str(found.model_dir))
    name = one_line(Path(found.model_dir).parent.name or "model")
    yield f"{found.steps:,} steps of post-training on {one_line(base)}."
    if figures := figures_of(found.metrics):
        yield f"Over its last steps: {figures}."
    counts = found.cloud
    yield (
        f"Cloud: {counts.bought:,} calls bought, {dollars(counts.usd)}; {counts.cached:,} answers "
        f"were there already, {counts.failed:,} calls failed, {counts.refused:,} were refused."
    )
    yield f"Model: {place}"
    yield f"Serve: vllm serve {place} --served-model-name {shlex.quote(name)}"
    yield (
        "Use:   RoutedChatModel(edge=ChatOpenAI(base_url=..., model="
        f'"{name}"), cloud=..., router=SelfRouter(contract="trained"))'
    )
