"""A language model of 60 thousand random weights, with a tokenizer of letters, as a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from langchain_hybridflow.answer_or_ask import ASK_MARKER

SPECIAL = ("<pad>", "<s>", "</s>", "<think>", "</think>", "<answer>", "</answer>", ASK_MARKER)
# Every character that the prompts of tests have, and what the chat template writes.
SIGNS = "".join(map(chr, range(32, 127))) + "\n"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def save_small_model(folder: Path, *, seed: int = 0) -> Path:
    """Write a Llama of random weights: about half of what it writes is the marker."""
    vocabulary = {piece: number for number, piece in enumerate((*SPECIAL, *SIGNS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # one part of the hidden state is the same everywhere: it is a bias
        model.model.embed_tokens.weight[:, 0] = 3.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[vocabulary[ASK_MARKER], 0] = 0.85
    model.save_pretrained(folder)
    return folder
