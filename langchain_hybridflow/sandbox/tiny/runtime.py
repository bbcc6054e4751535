"""The tiny model itself: token ids go in, scores of the next token come out."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from langchain_hybridflow.errors import ArtifactError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

__all__ = ["SHIPPED", "TinyLlama", "check_extra", "loaded"]

SHIPPED: Final = Path(__file__).parent / "weights"
"""Where the model is that comes with this package."""

_NEEDED: Final = ("numpy", "onnxruntime", "safetensors", "tokenizers")
_FILES: Final = ("config.json", "model.onnx", "model.safetensors", "tokenizer.json")

Cache: TypeAlias = "Mapping[str, Floats]"
"""What the model remembers of the tokens that it has read: keys and values of each layer."""


def check_extra() -> None:
    """See to it that the extra `tiny` is installed, without loading it.

    Raises:
        MissingExtraError: It is not.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        raise MissingExtraError("The sandbox's tiny model", "tiny")


@dataclass(frozen=True, slots=True, eq=False)
class TinyLlama:
    """A language model of the Llama architecture, run by onnxruntime; threads may share it.

    Args:
        pieces: The text of each token. A text is the pieces of its tokens, put together.
        bos_id: The token that every text begins with.
        eos_id: The token that ends it.
        context: The longest text, in tokens.
        weights: Its tensors by name, in single precision.
    """

    pieces: tuple[str, ...]
    bos_id: int
    eos_id: int
    context: int
    weights: Mapping[str, Floats]
    _tokenizer: Any
    _session: Any
    _empty: Cache

    @classmethod
    def load(cls, folder: Path) -> TinyLlama:
        """Read the four files of a model.

        The graph in `model.onnx` has no weights: these come from `model.safetensors`, by name.
        `config.json` and `tokenizer.json` are as transformers writes them.

        Raises:
            ArtifactError: A file is missing, or the files do not belong together.
            MissingExtraError: The extra `tiny` is not installed.
        """
        check_extra()
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise ArtifactError(f"No tiny model in {folder}: {', '.join(missing)} missing.")
        try:
            return cls._read(folder)
        except Exception as error:
            raise ArtifactError(f"The tiny model in {folder} cannot be used: {error}") from error

    @classmethod
    def _read(cls, folder: Path) -> TinyLlama:
        import numpy as np
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        size = tokenizer.get_vocab_size()
        if size != config["vocab_size"]:
            raise ArtifactError(f"its tokenizer has {size} tokens, it {config['vocab_size']}")
        stored = load_file(folder / "model.safetensors")
        weights = {name: np.ascontiguousarray(one, np.float32) for name, one in stored.items()}
        shape = (config["num_key_value_heads"], 0, config["head_dim"])
        nothing = np.zeros(shape, np.float32)
        return cls(
            pieces=tuple(tokenizer.decode([one], skip_special_tokens=False) for one in range(size)),
            bos_id=config["bos_token_id"],
            eos_id=config["eos_token_id"],
            context=config["max_position_embeddings"],
            weights=weights,  # onnxruntime uses these arrays and does not keep them alive
            _tokenizer=tokenizer,
            _session=_session(folder / "model.onnx", weights),
            _empty={
                f"past_{what}_{layer}": nothing
                for layer in range(config["num_hidden_layers"])
                for what in ("key", "value")
            },
        )

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, with the one that every text begins with."""
        return [self.bos_id, *self._tokenizer.encode(text, add_special_tokens=False).ids]

    def ids_of(self, piece: str) -> tuple[int, ...]:
        """Return the tokens whose text is `piece`: one, or none."""
        return tuple(number for number, text in enumerate(self.pieces) if text == piece)

    def read(self, ids: Sequence[int], cache: Cache | None = None) -> tuple[Floats, Cache]:
        """Read tokens on from where `cache` ends; by default from the beginning of a text.

        Returns:
            The scores (logits) of all tokens after each that was read, `[len(ids), vocabulary]`,
            and the cache with them.
        """
        import numpy as np

        cache = self._empty if cache is None else cache
        given = {"input_ids": np.asarray(ids, np.int64), **cache}
        scores, *grown = self._session.run(None, given)
        return scores, dict(zip(self._empty, grown, strict=True))


def _session(graph: Path, weights: Mapping[str, Floats]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Such small multiplications are slower on several threads, and other models want theirs, too.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_external_initializers(
        list(weights),
        [onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in weights.values()],
    )
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


_loading = threading.Lock()
_loaded: dict[Path, TinyLlama] = {}


def loaded(folder: Path) -> TinyLlama:
    """Return the model of a folder; it is loaded once in a process, by whoever comes first.

    Raises:
        ArtifactError: A file is missing, or the files do not belong together.
        MissingExtraError: The extra `tiny` is not installed.
    """
    folder = folder.resolve()
    with _loading:
        if folder not in _loaded:
            _loaded[folder] = TinyLlama.load(folder)
        return _loaded[folder]
