"""Against lm-evaluation-harness, request by request, on one small random GPT-2 in a Hugging Face folder."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl.config.schema import DecoderConfig
from mtl.data.vocabulary import Vocabulary
from mtl.decoder.generation import generate
from mtl.decoder.gpt import Decoder
from mtl.decoder.huggingface import save_pretrained
from mtl.opening import LanguageModel, open_language_model
from mtl.scoring.likelihood import Likelihood, Request, likelihoods
from mtl.scoring.pairs import encode_pair
from mtl.scoring.windows import windows

pytest.importorskip("lm_eval")
pytest.importorskip("accelerate")

CONTEXT = 64
NATS_APART = 1e-5
IN_FLOAT32 = 2.5e-7
"""The harness sums in float32: of a hundred nats and more, the fifth decimal is rounded."""
# Few words: continuations of some tokens are sometimes the likeliest.
WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "bird",
    "sat",
    "ran",
    "flew",
    "on",
    "under",
    "near",
    "big",
    "red",
    "mat",
    "tree",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights are large, so that probabilities are far from equal."""
    path = tmp_path_factory.mktemp("gpt2")
    vocabulary = Vocabulary.train([sentence(seed, 40) for seed in range(20)], 320)
    shape = {"layers": 2, "width": 32, "heads": 4, "context": CONTEXT}
    decoder = Decoder(DecoderConfig(name="test", **shape), vocabulary.size)
    for name, parameter in decoder.named_parameters():
        if parameter.dim() == 2:
            parameter.data *= 6 if name == "token_embedding.weight" else 4
    decoder.token_embedding.weight.data[vocabulary.end] *= 1.5  # so that some texts end
    save_pretrained(decoder, path)
    vocabulary.save(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return open_language_model(run=None, hf=str(folder), checkpoint="best")


@pytest.fixture(scope="module")
def harness(folder: Path, model: LanguageModel) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        str(folder),
        device="cpu",
        dtype="float32",
        batch_size=4,
        prefix_token_id=model.vocabulary.end,
    )


def sentence(seed: int, words: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choices(WORDS, k=words)).capitalize() + draw.choice([".", "!", ""])


def instances(kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=i)
        for i, each in enumerate(arguments)
    ]


def ours(model: LanguageModel, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
    encoded = [encode_pair(model.vocabulary, *pair) for pair in pairs]
    asked = [Request(tuple(before), tuple(after)) for before, after in encoded]
    return likelihoods(model.decoder, asked)


def pairs() -> list[tuple[str, str]]:
    """Passages under several continuations, blanks on both sides, other alphabets, no context, one token."""
    found = [
        (sentence(seed, 12), " " + sentence(100 * seed + k, 1 + k % 4))
        for seed in range(12)
        for k in range(4)
    ]
    found += [(sentence(seed, 5) + " \n ", sentence(seed + 1, 3)) for seed in range(4)]
    found += [("", sentence(seed, 3)) for seed in range(3)]
    found += [
        ("Die Katze sa\u00df", " auf dem B\u00e4nkchen \U0001f431"),
        ("a", "\n\n"),
        ("  x", "  y"),
    ]
    return found


def greedy_pairs(model: LanguageModel) -> list[tuple[str, str]]:
    """Contexts and what is written greedily after them, where their text is read as the very tokens written."""
    vocabulary, found = model.vocabulary, []
    contexts = [sentence(seed, 12) for seed in range(24)]
    prompts = [vocabulary.encode(context) for context in contexts]
    written = generate(
        model.decoder,
        prompts,
        max_new_tokens=3,
        banned=range(vocabulary.base_size, vocabulary.size),
    )
    for context, prompt, tokens in zip(contexts, prompts, written, strict=True):
        text = vocabulary.decode(tokens)
        if vocabulary.encode(context + text) == prompt + tokens:
            found.append((context, text))
    assert found
    return found


def test_loglikelihood(model: LanguageModel, harness: Any) -> None:
    asked = pairs() + greedy_pairs(model)
    expected = harness.loglikelihood(instances("loglikelihood", asked), disable_tqdm=True)
    found = ours(model, asked)
    for pair, one, (logprob, is_greedy) in zip(asked, found, expected, strict=True):
        assert -one.nats == pytest.approx(logprob, rel=IN_FLOAT32, abs=NATS_APART), pair
        assert one.greedy == is_greedy, pair
    assert any(one.greedy and len(one.token_nats) > 1 for one in found)
    assert not all(one.greedy for one in found)


def test_multiple_choice(model: LanguageModel, harness: Any) -> None:
    """Accuracy of the likeliest choice, and of the likeliest per character."""
    from datasets import Dataset
    from lm_eval import evaluate
    from lm_eval.api.task import ConfigurableTask

    rows = [
        {
            "question": sentence(seed, 15),
            "choices": [sentence(50 * seed + k, 1 + k) for k in range(4)],
            "gold": seed % 4,
        }
        for seed in range(24)
    ]
    task = ConfigurableTask(
        config={
            "task": "choices",
            "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }
    )
    results = evaluate(harness, {"choices": task}, bootstrap_iters=0, log_samples=True)
    samples = sorted(results["samples"]["choices"], key=lambda sample: sample["doc_id"])
    found = ours(model, [(row["question"], f" {c}") for row in rows for c in row["choices"]])
    right, right_normed = [], []
    for number, (row, sample) in enumerate(zip(rows, samples, strict=True)):
        logprobs = [-one.nats for one in found[4 * number : 4 * number + 4]]
        theirs = [float(answer[0]) for answer in sample["filtered_resps"]]
        assert logprobs == pytest.approx(theirs, rel=IN_FLOAT32, abs=NATS_APART)
        normed = [p / len(choice) for p, choice in zip(logprobs, row["choices"], strict=True)]
        right.append(float(logprobs.index(max(logprobs)) == row["gold"]))
        right_normed.append(float(normed.index(max(normed)) == row["gold"]))
        assert [right[-1], right_normed[-1]] == [sample["acc"], sample["acc_norm"]]
    assert right != right_normed  # the two rules do differ here
    scores = results["results"]["choices"]
    assert scores["acc,none"] == pytest.approx(sum(right) / len(rows))
    assert scores["acc_norm,none"] == pytest.approx(sum(right_normed) / len(rows))


def test_rolling_loglikelihood(model: LanguageModel, harness: Any) -> None:
    """Documents shorter and longer than the context, and just as long."""
    vocabulary = model.vocabulary
    texts = [sentence(seed, words) for seed, words in enumerate((1, 10, 30, 80, 200, 333))]
    long = vocabulary.encode(texts[-1])
    texts += [vocabulary.decode(long[:n]) for n in (CONTEXT, CONTEXT + 1, 2 * CONTEXT)]
    asked = instances("loglikelihood_rolling", [(text,) for text in texts])
    expected = harness.loglikelihood_rolling(asked, disable_tqdm=True)
    for text, logprob in zip(texts, expected, strict=True):
        tokens = vocabulary.encode(text)
        cut = windows(tokens, vocabulary.end, model.decoder.context, "disjoint")
        nats = [one.nats for one in likelihoods(model.decoder, cut)]
        assert len(nats) == -(-len(tokens) // CONTEXT)
        assert -sum(nats) == pytest.approx(logprob, rel=IN_FLOAT32, abs=NATS_APART)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_greedy_generation(
    model: LanguageModel, harness: Any, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts of unequal length, until the end of the text or 20 tokens."""
    prompts = [sentence(seed, 2 + seed % 7) for seed in range(14)]
    monkeypatch.setattr(harness, "batch_size_per_gpu", batch_size)
    asked = instances("generate_until", [(prompt, {"max_gen_toks": 20}) for prompt in prompts])
    expected = harness.generate_until(asked, disable_tqdm=True)
    encoded = [model.vocabulary.encode(prompt) for prompt in prompts]
    written = generate(model.decoder, encoded, max_new_tokens=20, stop={model.vocabulary.end})
    assert [model.vocabulary.decode(tokens) for tokens in written] == expected
    assert {len(tokens) == 20 for tokens in written} == {True, False}


def test_the_folder_is_the_decoder_that_was_saved(model: LanguageModel, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens = torch.tensor([[model.vocabulary.end, *model.vocabulary.encode("The cat sat")]])
    with torch.inference_mode():
        theirs = AutoModelForCausalLM.from_pretrained(folder)(tokens).logits
        ours = model.decoder.logits(model.decoder(tokens))
    assert float((ours - theirs).abs().max()) < NATS_APART
    assert model.name == folder.name
    assert model.vocabulary.size == model.decoder.vocabulary_size
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids("<|endoftext|>") == model.vocabulary.end
