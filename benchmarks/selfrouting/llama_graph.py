"""The ONNX graph of a Llama, without its weights, in a few plain operators.

It is written by hand instead of exported, so that no exporter's version changes its bytes, and so
that its weights can stay in a safetensors file under the names that transformers gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Old enough for any onnxruntime of the last years: nothing in it is newer.
OPSET = 18
IR_VERSION = 8


class _Graph:
    """Nodes in the order of their making; `add` returns the name of a node's only result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        name = to or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def cast(self, value: str, dtype: int) -> str:
        name = f"cast_{len(self.nodes)}"
        # A name of its own: the attribute of the operator is called `to`.
        self.nodes.append(helper.make_node("Cast", [value], [name], name=name, to=dtype))
        return name

    def constant(self, name: str, value: Any, dtype: Any = np.int64) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        """Declare a tensor that is somewhere else."""
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        # No such file: a tensor that nobody gives is an error, and not whatever stands there.
        tensor.external_data.add(key="location", value="given-by-name")
        self.initializers.append(tensor)
        return name


def build_graph(config: Mapping[str, Any]) -> onnx.ModelProto:
    """Return the graph of a `LlamaForCausalLM`, from the entries of its `config.json`.

    It takes the token ids of one text from where its cache ends, `input_ids [S]`, and the cache,
    `past_key_N` and `past_value_N [kv heads, P, head size]`; it returns `logits [S, vocabulary]`,
    and the cache with the new tokens, `present_key_N` and `present_value_N [.., P + S, ..]`.

    Raises:
        ValueError: The model has a part that the graph has not.
    """
    _refuse_what_is_not_here(config)
    graph = _Graph()
    _share(graph, config)
    vocabulary, width = config["vocab_size"], config["hidden_size"]
    table = graph.weight("model.embed_tokens.weight", vocabulary, width)
    hidden = graph.add("Gather", table, "input_ids")
    for layer in range(config["num_hidden_layers"]):
        hidden = _layer(graph, layer, hidden, config)
    hidden = _norm(graph, hidden, "model.norm.weight", width)
    head = table
    if not config["tie_word_embeddings"]:
        head = graph.weight("lm_head.weight", vocabulary, width)
    graph.add("Gemm", hidden, head, to="logits", transB=1)
    return _model(graph, config)


def weights_of(graph: onnx.ModelProto) -> list[str]:
    """Return the names of the tensors that the graph takes from the safetensors file."""
    return [
        one.name for one in graph.graph.initializer if one.data_location == TensorProto.EXTERNAL
    ]


def _refuse_what_is_not_here(config: Mapping[str, Any]) -> None:
    rope = config.get("rope_parameters") or {}
    wanted = {
        "model_type": (config["model_type"], "llama"),
        "hidden_act": (config["hidden_act"], "silu"),
        "attention_bias": (config.get("attention_bias", False), False),
        "mlp_bias": (config.get("mlp_bias", False), False),
        "rope_type": (rope.get("rope_type", "default"), "default"),
    }
    for name, (given, known) in wanted.items():
        if given != known:
            raise ValueError(f"{name} is {given!r}; the graph knows {known!r} only.")


def _share(graph: _Graph, config: Mapping[str, Any]) -> None:
    """Make what all layers use: constants, rotations, and the mask of who may see whom."""
    size, heads = config["head_dim"], config["num_attention_heads"]
    key_heads = config["num_key_value_heads"]
    for name, value in {
        "zero": 0,
        "one": 1,
        "second_axis": [1],
        "last_axis": [-1],
        "start": [0],
        "half": [size // 2],
        "end": [size],
        "heads_of": [0, heads, size],
        "key_heads_of": [0, key_heads, size],
        "grouped": [key_heads, heads // key_heads, -1, size],
        "ungrouped": [heads, -1, size],
        "together": [0, heads * size],
    }.items():
        graph.constant(name, value)
    graph.constant("epsilon", config["rms_norm_eps"], np.float32)
    graph.constant("scale", size**-0.5, np.float32)
    graph.constant("unseen", -1e9, np.float32)
    graph.constant("seen", 0.0, np.float32)
    theta = (config.get("rope_parameters") or config)["rope_theta"]
    frequencies = 1.0 / theta ** (np.arange(0, size, 2, dtype=np.float32) / np.float32(size))
    graph.constant("frequencies", np.concatenate([frequencies, frequencies]), np.float32)

    past = graph.add("Gather", graph.add("Shape", "past_key_0"), "one")
    new = graph.add("Gather", graph.add("Shape", "input_ids"), "zero")
    total = graph.add("Add", past, new)
    # The places of the new tokens as a column, those of all tokens as a row.
    places = graph.add("Unsqueeze", graph.add("Range", past, total, "one"), "second_axis")
    angles = graph.add("Mul", graph.cast(places, TensorProto.FLOAT), "frequencies")
    graph.add("Cos", angles, to="cosines")
    graph.add("Sin", angles, to="sines")
    later = graph.add("Greater", graph.add("Range", "zero", total, "one"), places)
    graph.add("Where", later, "unseen", "seen", to="mask")


def _layer(graph: _Graph, layer: int, hidden: str, config: Mapping[str, Any]) -> str:
    name, width, inner = f"model.layers.{layer}", config["hidden_size"], config["intermediate_size"]
    normed = _norm(graph, hidden, f"{name}.input_layernorm.weight", width)
    hidden = graph.add("Add", hidden, _attention(graph, layer, normed, config))
    normed = _norm(graph, hidden, f"{name}.post_attention_layernorm.weight", width)
    gate = _linear(graph, normed, f"{name}.mlp.gate_proj.weight", inner, width)
    gate = graph.add("Mul", gate, graph.add("Sigmoid", gate))
    up = _linear(graph, normed, f"{name}.mlp.up_proj.weight", inner, width)
    down = _linear(graph, graph.add("Mul", gate, up), f"{name}.mlp.down_proj.weight", width, inner)
    return graph.add("Add", hidden, down)


def _attention(graph: _Graph, layer: int, hidden: str, config: Mapping[str, Any]) -> str:
    name, width = f"model.layers.{layer}.self_attn", config["hidden_size"]
    size, heads = config["head_dim"], config["num_attention_heads"]
    key_heads = config["num_key_value_heads"]

    def project(what: str, count: int, shape: str) -> str:
        flat = _linear(graph, hidden, f"{name}.{what}_proj.weight", count * size, width)
        return graph.add("Transpose", graph.add("Reshape", flat, shape), perm=[1, 0, 2])

    query = _rotated(graph, project("q", heads, "heads_of"))
    key = _rotated(graph, project("k", key_heads, "key_heads_of"))
    value = project("v", key_heads, "key_heads_of")
    key = graph.add("Concat", f"past_key_{layer}", key, to=f"present_key_{layer}", axis=1)
    value = graph.add("Concat", f"past_value_{layer}", value, to=f"present_value_{layer}", axis=1)
    # [kv heads, heads that share them, new tokens, size] by [kv heads, 1, size, all tokens]
    query = graph.add("Reshape", graph.add("Mul", query, "scale"), "grouped")
    key = graph.add("Transpose", graph.add("Unsqueeze", key, "second_axis"), perm=[0, 1, 3, 2])
    scores = graph.add("Add", graph.add("MatMul", query, key), "mask")
    shares = graph.add("Softmax", scores, axis=-1)
    mixed = graph.add("MatMul", shares, graph.add("Unsqueeze", value, "second_axis"))
    mixed = graph.add("Transpose", graph.add("Reshape", mixed, "ungrouped"), perm=[1, 0, 2])
    mixed = graph.add("Reshape", mixed, "together")
    return _linear(graph, mixed, f"{name}.o_proj.weight", width, heads * size)


def _rotated(graph: _Graph, vectors: str) -> str:
    """Turn each vector by its token's place; its halves are the two axes."""
    left = graph.add("Slice", vectors, "start", "half", "last_axis")
    right = graph.add("Slice", vectors, "half", "end", "last_axis")
    turned = graph.add("Concat", graph.add("Neg", right), left, axis=-1)
    return graph.add("Add", graph.add("Mul", vectors, "cosines"), graph.add("Mul", turned, "sines"))


def _norm(graph: _Graph, hidden: str, weight: str, width: int) -> str:
    squares = graph.add("Mul", hidden, hidden)
    mean = graph.add("ReduceMean", squares, "last_axis", keepdims=1)
    root = graph.add("Sqrt", graph.add("Add", mean, "epsilon"))
    return graph.add("Mul", graph.add("Div", hidden, root), graph.weight(weight, width))


def _linear(graph: _Graph, hidden: str, weight: str, rows: int, columns: int) -> str:
    return graph.add("Gemm", hidden, graph.weight(weight, rows, columns), transB=1)


def _model(graph: _Graph, config: Mapping[str, Any]) -> onnx.ModelProto:
    layers, size = range(config["num_hidden_layers"]), config["head_dim"]
    key_heads = config["num_key_value_heads"]

    def cache(when: str, length: str) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(
                f"{when}_{what}_{layer}", TensorProto.FLOAT, [key_heads, length, size]
            )
            for layer in layers
            for what in ("key", "value")
        ]

    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["new"])
    logits = helper.make_tensor_value_info(
        "logits", TensorProto.FLOAT, ["new", config["vocab_size"]]
    )
    made = helper.make_graph(
        graph.nodes,
        "llama",
        inputs=[ids, *cache("past", "past")],
        outputs=[logits, *cache("present", "total")],
        initializer=graph.initializers,
    )
    return helper.make_model(
        made,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="langchain-hybridflow",
    )
