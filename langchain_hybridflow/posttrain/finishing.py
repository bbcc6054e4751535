"""A trained model as others use it: whole weights in one folder, which say themselves what to do.

A model is trained under instructions, and without them it is another one. So they become part of
the folder's chat template: whoever serves it, by whatever program, sends questions and nothing
else.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from langchain_hybridflow.posttrain._trl import check_installed
from langchain_hybridflow.posttrain.settings import NOTE_FILE

__all__ = ["finish_model", "with_instructions"]

CARD: Final = "README.md"
_ADAPTER: Final = "adapter_config.json"
_TRAINERS_OWN: Final = "training_args.bin"  # a pickle, with paths of this machine
_MARK: Final = "{#- post-trained under instructions -#}"
# The user's own system message comes after them: it may be that help is not to be had.
_TEMPLATE: Final = (
    "%(mark)s{%%- set told = %(text)s -%%}"
    "{%%- if messages and messages[0]['role'] == 'system' -%%}"
    "{%%- set own = messages[0]['content'] -%%}"
    "{%%- if own is not string -%%}"
    "{%%- set own = own | selectattr('text', 'defined') | map(attribute='text') -%%}"
    "{%%- set own = own | join('\\n\\n') -%%}"
    "{%%- endif -%%}"
    "{%%- if told not in own -%%}"
    "{%%- set messages = [{'role': 'system', 'content': told + '\\n\\n' + own}] + messages[1:] -%%}"
    "{%%- endif -%%}"
    "{%%- else -%%}"
    "{%%- set messages = [{'role': 'system', 'content': told}] + messages -%%}"
    "{%%- endif -%%}"
)


def with_instructions(template: str, instructions: str) -> str:
    """Return a chat template that says the instructions first, whatever it is given.

    What a conversation has as its system message follows them. A template that says them already
    is returned as it is.

    Args:
        template: A Jinja template, as tokenizers have it.
        instructions: What the model was trained under; empty for none.

    Example:
        >>> with_instructions("{{ messages[0]['content'] }}", "").startswith("{{")
        True
        >>> told = with_instructions("{{ messages[0]['content'] }}", "Answer or ask.")
        >>> "Answer or ask." in told, with_instructions(told, "Answer or ask.") == told
        (True, True)
    """
    if not instructions.strip() or template.startswith(_MARK):
        return template
    # JSON's strings are Jinja's, but for the escapes of what is not ASCII, which are let be.
    text = json.dumps(instructions, ensure_ascii=False)
    return _TEMPLATE % {"mark": _MARK, "text": text} + template


def finish_model(trained: Path, place: Path, *, instructions: str, card: str) -> None:
    """Make a folder that transformers, vLLM and others load as it is, of what a trainer saved.

    Adapters (LoRA) are merged into the model that they were trained on; they themselves are kept
    in `adapter` beside the folder.

    Args:
        trained: What the trainer saved: a model, or its adapter, and the tokenizer. It is used up.
        place: Where the folder goes; one that is there is replaced.
        instructions: The system message of the training; empty for none.
        card: What README.md says.

    Raises:
        MissingExtraError: The extra `rl` is not installed.
    """
    check_installed()
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".finishing-") as room:
        is_adapter = (trained / _ADAPTER).exists()
        if is_adapter:
            made = Path(room) / "model"
            _merge(trained, made)
            shutil.copy(trained / NOTE_FILE, made)
            _replace(trained, place.with_name("adapter"), Path(room) / "old-adapter")
        else:
            made = trained
        _instruct(made, instructions)
        (made / _TRAINERS_OWN).unlink(missing_ok=True)
        (made / CARD).write_text(card, encoding="utf-8")
        _replace(made, place, Path(room) / "old-model")


def _replace(made: Path, place: Path, old: Path) -> None:
    if place.exists():
        place.rename(old)
    made.rename(place)


def _merge(adapter: Path, made: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    model: Any = AutoPeftModelForCausalLM.from_pretrained(adapter)
    model.merge_and_unload().save_pretrained(made)
    AutoTokenizer.from_pretrained(adapter).save_pretrained(made)


def _instruct(folder: Path, instructions: str) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    if not isinstance(tokenizer.chat_template, str):  # it reads plain text, and has no roles
        return
    tokenizer.chat_template = with_instructions(tokenizer.chat_template, instructions)
    tokenizer.save_pretrained(folder)
