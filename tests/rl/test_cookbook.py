"""The cookbook's post-training, run as it stands there but for its size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import SimpleChatModel
from transformers import AutoModelForCausalLM

from langchain_hybridflow.sandbox.server import create_app, running_server
from tests.rl.small_models import save_small_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "cookbook" / "13_teach_it_when_to_ask.py"
SETTINGS = "qwen-math.toml"
MAIN = "from langchain_hybridflow.cli import main; main()"

# All that is other than in the cookbook: the size, and that there is no GPU and no network.
SMALLER = {
    "--model": "small",
    "--steps": "3",
    "--prompts-per-step": "3",
    "--group": "2",
    "--max-new-tokens": "8",
    "--save-every": "2",
}
ON_A_CPU = ("bf16=false", "gradient_checkpointing=false", "per_device_train_batch_size=2")

pytestmark = [pytest.mark.allow_hosts(["127.0.0.1"]), pytest.mark.timeout(300)]


class Mathematician(SimpleChatModel):
    """Answers the problems of the page, in other words than the data have."""

    @property
    def _llm_type(self) -> str:
        return "mathematician"

    def _call(self, messages: Any, *_: Any, **__: Any) -> str:
        known = {"cdot": "42.0", "Solve": "x = 0.5", "primes": "\\frac{20}{2}"}
        found = [answer for word, answer in known.items() if word in messages[-1].text]
        return f"That is easy: \\boxed{{{found[0]}}}."


def test_cookbook_trains_as_it_stands_but_for_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_small_model(tmp_path / "small")
    source, cut, _ = PAGE.read_text(encoding="utf-8").partition("# ## What it can cost")
    assert cut
    exec(compile(source, str(PAGE), "exec"), {})
    cloud = create_app({"gpt-4.1": Mathematician()})
    with running_server(cloud) as url:
        smaller = [part for pair in SMALLER.items() for part in pair]
        options = [part for one in ON_A_CPU for part in ("--trainer", one)]
        elsewhere = ("--cloud", f"{url}#gpt-4.1", *options, "--json")
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "posttrain", "--config", SETTINGS, *smaller, *elsewhere],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["cloud"]["bought"] == len(cloud.state.log) == 3
    assert result["metrics"]["cloud/accuracy"] == 1.0
    assert 0 < float(result["cloud"]["usd"]) < 0.1
    run = tmp_path / "runs" / "qwen-math"
    assert AutoModelForCausalLM.from_pretrained(run / "model").num_parameters() > 0
    adapter = (run / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    assert json.loads(adapter)["r"] == 16
    assert any((run / "logs").iterdir())
