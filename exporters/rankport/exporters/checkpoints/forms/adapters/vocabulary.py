"""Embeddings and head under an adapter: rows added in training, tables stored whole, and whether the two stay tied.

Peft leaves all three to its user. What the adapter computed in training decides: embeddings trained beside a tied
head leave that head as the base has it, unless `ensure_weight_tying` trained both as one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.adapters.config import AdapterConfig
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.protos.errors import CheckpointError

_WHOLE = (".weight", ".base_layer.weight", ".token_adapter.base_layer.weight")
_TOKENS = ".token_adapter.trainable_tokens_delta"
_ROWS = {".lora_embedding_A": 1, ".lora_B.weight": 0, ".lora_embedding_B": 0}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The two modules with a row for each token, as the adapter names them."""

    model: nn.Module
    config: AdapterConfig
    table: str  # module name of the input embeddings
    head: str | None  # of the LM head, if there is one
    tied: bool  # in the base

    @classmethod
    def of(cls, model: nn.Module, root: nn.Module, config: AdapterConfig) -> "Vocabulary":
        """Reads what an adapter changes; `root` is the module whose names the adapter uses."""
        embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[operator]
        names = {id(module): name for name, module in root.named_modules()}
        tied = output is not None and output.weight is embeddings.weight
        return cls(model, config, names[id(embeddings)], names.get(id(output)), tied)

    def prepare(self, stored: dict[str, Tensor]) -> list[str]:
        """Makes room for the adapter's rows and unties what it trained apart; takes tables of the base out of `stored`.

        Returns what changed, in words. Raises CheckpointError for rows that neither base nor adapter holds.
        """
        self._drop_twin_of_tokens(stored)
        notes = self._resize(stored)
        self._load_whole_tables(stored)
        if self.tied and any(self._owner(name) is not None for name in stored):
            self._untie()
        return notes

    def settle(self) -> list[str]:
        """Settles what follows a merge: ties again what is equal, and makes the config say what is so."""
        if self.head is None:
            return []
        table, head = self._embeddings(), self._head()
        # Peft builds the twin of a tied head with its widths in the wrong order.
        head.out_features, head.in_features = head.weight.shape
        if not self.tied:
            return []
        equal = torch.equal(head.weight, table.weight)
        if equal:
            head.weight = table.weight
        self.model.config.tie_word_embeddings = equal  # type: ignore[union-attr]
        if equal:
            return []
        getattr(self.model, "all_tied_weights_keys", {}).pop(f"{self.head}.weight", None)
        return ["the adapter trained embeddings and LM head apart: they are no longer tied"]

    def _drop_twin_of_tokens(self, stored: dict[str, Tensor]) -> None:
        """Drops a second copy: rows trained for embeddings and a tied head are stored twice after a resize."""
        table, head = f"{self.table}{_TOKENS}", f"{self.head}{_TOKENS}"
        if self.tied and table in stored and head in stored and torch.equal(stored[table], stored[head]):
            del stored[head]

    def _resize(self, stored: dict[str, Tensor]) -> list[str]:
        before = self._embeddings().num_embeddings
        after = self._rows(stored, before)
        if after == before:
            return []
        if after > before:
            self._require_new_rows(stored, before, after)
        with quiet(), torch.no_grad():
            self.model.resize_token_embeddings(after, mean_resizing=False)  # type: ignore[operator]
        return [f"the adapter's vocabulary has {after} rows, the base's {before}"]

    def _rows(self, stored: dict[str, Tensor], before: int) -> int:
        """Counts the tokens that the adapter was trained with; all its tensors must agree."""
        sizes: dict[str, int] = {}
        for name, tensor in stored.items():
            owner = self._owner(name)
            suffix = name.removeprefix(str(owner))
            axis = 0 if suffix in _WHOLE else _ROWS.get(suffix)
            # The A side of an LM head and the B side of embeddings have no row per token.
            of_table = suffix == ".lora_embedding_A"
            if axis is None or owner is None or (suffix in _ROWS and of_table != (owner == self.table)):
                continue
            sizes[name] = tensor.shape[axis]
        if len(set(sizes.values())) > 1:
            raise CheckpointError(f"the adapter's tensors disagree about the size of the vocabulary: {sizes}")
        tokens = [row for rows in self.config.trained_tokens.values() for row in rows]
        return next(iter(sizes.values()), max([before, *(row + 1 for row in tokens)]))

    def _require_new_rows(self, stored: dict[str, Tensor], before: int, after: int) -> None:
        tokens = self.config.trained_tokens
        alone = set(tokens.get("", ())) or set(tokens.get(self.table.rpartition(".")[2], ()))
        by_token = alone >= set(range(before, after))
        if not self._stored_whole(self.table, stored) and not by_token:
            raise CheckpointError(
                f"the adapter was trained with {after} tokens and the base has {before}: the embeddings of the new "
                f"ones are not stored, save the adapter with {self.table.rpartition('.')[2]!r} in modules_to_save"
            )
        if self.head is None or self._stored_whole(self.head, stored):
            return
        follows = self.tied and (by_token or self.config.ties_adapters or not self._saved(self.table))
        if not follows:
            raise CheckpointError(
                f"the adapter was trained with {after} tokens and the base has {before}: it stores "
                f"{self.table + '.weight'!r} and no {self.head + '.weight'!r}, so the head's new rows are lost; save "
                f"the adapter with {self.head!r} in modules_to_save, or state ensure_weight_tying true in "
                "adapter_config.json if the head was trained as the embeddings' twin"
            )

    def _load_whole_tables(self, stored: dict[str, Tensor]) -> None:
        """Tables that peft stores beside the adapter, because they were resized, are the base's: they go there."""
        replaced = {
            module: name
            for name in stored
            for module in (self.table, self.head)
            if module is not None and name.removeprefix(module) in _WHOLE and name.startswith(module)
            if not (name == f"{module}.weight" and self._saved(module))
        }
        tensors = {module: stored.pop(name) for module, name in replaced.items()}
        if self.tied and self.head in tensors and not torch.equal(tensors[self.head], self._twin(tensors)):
            self._untie()
        for module, tensor in tensors.items():
            weight = (self._embeddings() if module == self.table else self._head()).weight
            if tensor.shape != weight.shape:
                raise CheckpointError(
                    f"adapter tensor {replaced[module]!r} has shape {list(tensor.shape)}, the base's {module} is "
                    f"{list(weight.shape)}: it is an adapter of another base ({self.config.base!r})"
                )
            with torch.no_grad():
                weight.copy_(tensor)

    def _twin(self, tensors: dict[str, Tensor]) -> Tensor:
        return tensors.get(self.table, self._embeddings().weight)

    def _untie(self) -> None:
        head = self._head()
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)

    def _owner(self, name: str) -> str | None:
        return next((m for m in (self.table, self.head) if m is not None and name.startswith(f"{m}.")), None)

    def _saved(self, module: str) -> bool:
        """Tells whether peft keeps a trained copy of the module, named like the module itself."""
        twins = [module for module in (self.table, self.head) if module is not None]
        asked = twins if self.tied and self.config.ties_adapters else [module]
        return any(module.endswith(self.config.modules_to_save) for module in asked)

    @staticmethod
    def _stored_whole(module: str, stored: dict[str, Tensor]) -> bool:
        return any(module + suffix in stored for suffix in _WHOLE)

    def _embeddings(self) -> nn.Embedding:
        return self.model.get_input_embeddings()  # type: ignore[operator, no-any-return]

    def _head(self) -> nn.Linear:
        return self.model.get_output_embeddings()  # type: ignore[operator, no-any-return]
