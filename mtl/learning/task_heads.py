"""Answers of an exported run: its decoder as transformers loads it, with the folder's heads.json and heads.safetensors.

Stands alone, on torch and safetensors: the card of an exported folder prints it, for those who have the folder alone.

Legend: T tokens of a row, D width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F


class TaskHeads:
    """Answers one row at a time, as the run did.

    :param folder: The exported folder.
    :param model: ``AutoModelForCausalLM.from_pretrained(folder)``.
    :param tokenizer: ``AutoTokenizer.from_pretrained(folder)``.
    """

    def __init__(self, folder: str | Path, model: Any, tokenizer: Any):
        about = json.loads(Path(folder, "heads.json").read_text(encoding="utf-8"))
        file = Path(folder, "heads.safetensors")
        self.weights = load_file(file, device=str(model.device)) if file.is_file() else {}
        self.model, self.tokenizer = model.eval(), tokenizer
        self.tasks, self.heads, self.tokens = about["tasks"], about["heads"], about["tokens"]
        self.context, self.unspoken = about["context"], about["unspoken"]

    @torch.inference_mode()
    def answer(self, name: str, *segments: str, choices: Sequence[str] = ()) -> dict[str, Any]:
        """The answer to a row of task ``name``: a label, a score, a choice or a text; of labels and choices also the
        log-probability of each."""
        task = self.tasks[name]
        if task["kind"] == "language_modelling":
            raise ValueError(f"{name} has documents, which have no answer")
        if task["kind"] == "generation":
            return {"answer": self.write(task, segments)}
        scores = self.scores(task, segments, choices)
        if task["kind"] == "regression" and task["head"] is not None:
            low, high = task["range"]
            return {"answer": scores.clamp(low, high).item()}
        names = task["names"] or list(choices)
        best = names[int(scores.argmax())]
        if task["kind"] == "regression":
            return {"answer": best}
        return {
            "answer": best,
            "log_probabilities": dict(zip(names, scores.tolist(), strict=True)),
        }

    def scores(
        self, task: dict[str, Any], segments: Sequence[str], choices: Sequence[str]
    ) -> Tensor:
        """One number for each label or choice, or the one a head gives for a score."""
        candidates = self.candidates(task, choices)
        room = self.context - max(map(len, candidates), default=0)
        pieces = self.fitted(task, segments, room)
        row = self.joined(task, pieces)
        if task["head"] is None:  # how likely the decoder finds each answer
            return torch.stack([self.likelihood(task, row, answer) for answer in candidates])
        if task["kind"] == "multiple_choice":
            ends = [self.states(task, row + choice)[-1] for choice in candidates]
            return self.linear(task["head"], torch.stack(ends)).squeeze(1).log_softmax(0)
        states = self.states(task, row)
        if self.heads[task["head"]]["kind"] == "stochastic_answer_network":
            return self.read_repeatedly(task["head"], row, states)
        end = states[-1]
        if task["both_orders"]:
            end = end + self.states(task, self.joined(task, pieces[::-1]))[-1]
        outputs = self.linear(task["head"], end)
        return outputs if task["kind"] == "regression" else outputs.log_softmax(0)

    def write(self, task: dict[str, Any], segments: Sequence[str]) -> str:
        """The likeliest token each time, until the end token."""
        longest = task["max_answer_tokens"]
        row = self.joined(task, self.fitted(task, segments, self.context - longest - 1))
        written: list[int] = []
        while len(written) < longest:
            state = self.states(task, row + written)[-1]
            if task["head"] is None:
                logits = self.model.get_output_embeddings()(state)
            else:
                logits = self.linear(task["head"], state)
            logits[self.unspoken] = -torch.inf
            token = int(logits.argmax())
            if token == self.tokens["end"]:
                break
            written.append(token)
        return str(self.tokenizer.decode(written, skip_special_tokens=True)).strip()

    def candidates(self, task: dict[str, Any], choices: Sequence[str]) -> list[list[int]]:
        """Token ids of each text there is to choose from; none where a head has an output for each label."""
        if task["kind"] != "multiple_choice":
            return task["candidates"] or []
        blank = " " if task["head"] is None else ""
        last = self.tokens["end" if task["head"] is None else "extract"]
        longest = self.context // 2 - 1
        return [[*self.encode(blank + choice.strip())[:longest], last] for choice in choices]

    def fitted(self, task: dict[str, Any], segments: Sequence[str], room: int) -> list[list[int]]:
        """Token ids of each piece. Where the row is too long, its longest piece loses its last tokens."""
        texts = sorted(segments) if task["both_orders"] else segments
        pieces = [self.encode(text.strip()) for text in texts]
        room -= len(self.joined(task, [[] for _ in pieces]))
        while sum(map(len, pieces)) > room:
            max(pieces, key=len).pop()
        return pieces

    def joined(self, task: dict[str, Any], pieces: Sequence[list[int]]) -> list[int]:
        """Opening, pieces with the separator between them, closing."""
        row = list(task["opening"])
        for index, piece in enumerate(pieces):
            if index and task["separator"] is not None:
                row.append(task["separator"])
            row += piece
        return row + task["closing"]

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return ids

    def states(self, task: dict[str, Any], row: list[int]) -> Tensor:
        """(T, D) what the decoder makes of a row."""
        tokens = torch.tensor([row], device=self.model.device)
        embedded = self.model.get_input_embeddings()(tokens)
        if task["vector"] is not None:
            embedded = embedded + self.weights[task["vector"]]
        states: Tensor = self.model.transformer(inputs_embeds=embedded).last_hidden_state[0]
        return states.float()

    def likelihood(self, task: dict[str, Any], row: list[int], answer: list[int]) -> Tensor:
        """Log-probability of an answer behind a row."""
        states = self.states(task, row + answer)[len(row) - 1 : -1]
        log_probabilities = self.model.get_output_embeddings()(states).log_softmax(-1)
        return log_probabilities[range(len(answer)), answer].sum()

    def linear(self, head: str, states: Tensor) -> Tensor:
        """A linear head."""
        return F.linear(states, self.weights[f"{head}.weight"], self.weights.get(f"{head}.bias"))

    def read_repeatedly(self, head: str, row: list[int], states: Tensor) -> Tensor:
        """Log-probabilities of a stochastic answer network (1901.11504, section 3), which reads the first segment again
        and again. The delimiter belongs to the first segment, the extract token to the second."""
        middle = row.index(self.tokens["delimiter"]) + 1
        first, second = states[:middle], states[middle:]

        def weight(name: str) -> Tensor:
            return self.weights[f"{head}.{name}"]

        def mean(of: Tensor, attention: Tensor) -> Tensor:
            return attention.softmax(0) @ of

        s = mean(second, second @ weight("summary.weight")[0])
        x = mean(first, first @ (weight("attention.weight") @ s))
        steps = []
        for step in range(self.heads[head]["steps"]):
            if step > 1:
                x = mean(first, first @ (weight("attention.weight") @ s))
            if step > 0:
                gates = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                s = torch.gru_cell(x[None], s[None], *(weight(f"recurrence.{g}") for g in gates))[0]
            features = torch.cat([s, x, (s - x).abs(), s * x])
            steps.append(self.linear(f"{head}.classify", features).softmax(0))
        return torch.stack(steps).mean(0).log()


def load_heads(folder: str | Path, model: Any, tokenizer: Any) -> TaskHeads:
    """The heads of an exported folder, around its decoder and its tokenizer as transformers loads them."""
    return TaskHeads(folder, model, tokenizer)
