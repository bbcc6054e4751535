# %% [markdown]
# # Can I teach my own model when to ask?
#
# Yes, by post-training (GAPG, [arXiv 2509.24050](https://arxiv.org/abs/2509.24050)): the edge model
# gets better at your task, and learns to ask for the cloud at the end of its own thinking where it
# would be wrong. Here that is Qwen2.5-1.5B on the competition problems of MATH. **The training
# needs a GPU, and is not run in this notebook**; everything up to it is. The settings below are run
# by the tests of this project, on a CPU and with another model: one of random weights, 20,000 times
# smaller.
#
# ```console
# $ pip install 'langchain-hybridflow[learning,rl]'
# ```

# %% [markdown]
# ## Data
#
# One JSON object a line: what is asked, and what is right. The answer of a MATH problem is what its
# solution puts in a box; the verifier `math` compares it as mathematics, so that 1/2 and
# `\frac{1}{2}` are the same. Three rows stand in for the download here.

# %%
import json
import subprocess
import sys
from pathlib import Path

SAMPLE = [
    {"problem": "What is $6 \\cdot 7$?", "answer": "42", "subject": "Prealgebra", "level": 1},
    {"problem": "Solve $2x + 1 = 2$ for $x$.", "answer": "\\frac{1}{2}", "subject": "Algebra"},
    {"problem": "How many primes are below 30?", "answer": "10", "subject": "Number Theory"},
]


def of_the_hub(split: str):
    """MATH as it is on the Hub: 12,000 problems in `train`, 500 in `test`. Not called here."""
    from datasets import load_dataset

    return load_dataset("nlile/hendrycks-MATH-benchmark", split=split)


def write(path: str, problems) -> None:
    """Write the rows as the training reads them."""
    rows = [
        {"question": one["problem"], "answer": one["answer"], "tag": one["subject"]}
        for one in problems
    ]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


write("math-train.jsonl", SAMPLE)  # with the network: of_the_hub("train")

# %% [markdown]
# ## Settings
#
# A file holds them; whatever is said on the command line goes before it. `share` is how many of all
# problems may go to the cloud. Keys are in no file: `OPENAI_API_KEY` holds this one's.

# %%
SETTINGS = """
model = "Qwen/Qwen2.5-1.5B-Instruct"
data = "math-train.jsonl"
out = "runs/qwen-math"
cloud = "openai:gpt-4.1"
verifier = "math"
share = 0.3
limit_usd = "60"

steps = 200
prompts_per_step = 16
group = 8
max_new_tokens = 1024
learning_rate = 1e-5
save_every = 25

[lora]
r = 16
lora_alpha = 32

[trainer]
bf16 = true
gradient_checkpointing = true
per_device_train_batch_size = 8

[trainer.model_init_kwargs]
dtype = "bfloat16"
"""
Path("qwen-math.toml").write_text(SETTINGS.lstrip(), encoding="utf-8")

# %% [markdown]
# ## What it can cost
#
# `--dry-run` reads everything, buys nothing, and needs no GPU. The cloud is asked about a problem
# once at most, and the answer is kept on disk: so the problems that are met bound the bill, and
# `limit_usd` bounds it in any case. With all of MATH, 200 steps of 16 meet 3,200 problems.

# %%
MAIN = "from langchain_hybridflow.cli import main; main()"


def hybridflow(*arguments: str) -> None:
    """Run the command as a terminal would."""
    command = [sys.executable, "-c", MAIN, *arguments]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


hybridflow("posttrain", "--config", "qwen-math.toml", "--dry-run")

# %% [markdown]
# ## Train
#
# ```console
# $ export OPENAI_API_KEY=...
# $ hybridflow posttrain --config qwen-math.toml
# $ hybridflow posttrain --config qwen-math.toml --resume    # after Ctrl-C, a crash, a power cut
# $ tensorboard --logdir runs/qwen-math/logs
# ```
#
# Watch two curves: `local_accuracy` is to rise, and `ask_rate` to stay away from 1. What this
# needs, **estimated and not measured**:
#
# - Memory of the GPU: about 20 GB. Weights 3 GB, the cache of 128 responses 5 GB, scores of 8
#   responses over 151,936 tokens 10 GB; `per_device_train_batch_size = 4` halves the last.
# - The cloud's bill: about 16 USD, if its answers have 600 tokens on average, and never more than
#   `limit_usd`.
#
# Without `[lora]` all weights are trained, which takes more than twice the memory. With
# `use_vllm = true` under `[trainer]` vLLM writes the responses, which is most of the work.

# %% [markdown]
# ## Use
#
# `runs/qwen-math/model` is a whole model with its card. The instructions that it was trained under
# are part of its chat template. Serve it, and `SelfRouter` reads its marker. Here a scripted model
# stands in for it.
#
# ```console
# $ vllm serve runs/qwen-math/model --served-model-name qwen-math
# ```

# %%
from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.routing import SelfRouter
from langchain_hybridflow.testing import ScriptedChatModel

# edge = ChatOpenAI(base_url="http://localhost:8000/v1", model="qwen-math", api_key="none")
edge = ScriptedChatModel(
    responses=[
        "<think>6 times 7 is 42.</think><answer>42</answer>",
        "<think>Many cases. I lose count.</think>" + ASK_MARKER,
    ]
)
# cloud = ChatOpenAI(model="gpt-4.1")
cloud = ScriptedChatModel(responses=["There are 168 of them."])

model = RoutedChatModel(
    edge=edge,
    cloud=cloud,
    router=SelfRouter(contract="trained"),
    budget=Budget(max_cloud_calls=100),
)
for question in ("What is 6 * 7?", "How many primes are below 1,000?"):
    answer = model.invoke(question)
    print(f"{answer.response_metadata['hybridflow']['tier']:6}{answer.text}")

# %% [markdown]
# ## What to take away
#
# - Data are questions with answers that can be verified; settings are one file.
# - The bill is bounded before it begins, and no answer is bought twice, however often you resume.
# - Measure the result on the 500 problems of `test` before you believe in it: the figures in the
#   card are of the training. What became of a small model that was trained on a CPU stands in
#   [benchmarks](../benchmarks/README.md).
#
# More: [post-training](../docs/posttrain.md), [the budget](../docs/budgets.md).
