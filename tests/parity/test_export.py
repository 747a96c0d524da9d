"""Exported runs against the runs themselves, through transformers and lm-evaluation-harness."""

import re
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))

import finished

from mtl.assembly import restore
from mtl.data.store import EncodedSplit
from mtl.data.vocabulary import SPECIAL
from mtl.decoder.generation import generate
from mtl.export import load_heads, run
from mtl.learning import task_heads
from mtl.learning.evaluation import answer_split
from mtl.opening import open_language_model
from mtl.tasks.reading import Reader

transformers = pytest.importorskip("transformers")

LONG = "grim " * 90
TEXTS = ["sad grim", "happy, warm and <|endoftext|> fine", LONG]
ROWS = {
    "moods": [{"text": text} for text in TEXTS],
    "echo": [{"text": text} for text in TEXTS],
    "pairs": [
        {"first": "sad", "second": "warm it is"},
        {"first": LONG, "second": "cold"},
        {"first": "a" + LONG, "second": LONG},
    ],
}
for name in ("score", "alike", "choose"):
    ROWS[name] = [{**row, "number": n, "label": "same"} for n, row in enumerate(ROWS["pairs"])]
RUNS = {
    "hard_sharing": ["strategy=hard_sharing"],
    "hard_sharing, shared heads": ["strategy=hard_sharing", "strategy.heads=by_answers"],
    "mt_dnn": ["strategy=mt_dnn"],
    "mt_dnn, one step": ["strategy=mt_dnn", "strategy.san_steps=1"],
    "mt_dnn, copies": ["strategy=mt_dnn", "strategy.fine_tune=0.5", "budget.steps=2"],
    "mixed_batch, GPT-1": ["strategy=mixed_batch", "decoder.norm=post"],
    "task_signal": ["strategy=task_signal"],
    "task_signal, vectors": ["strategy=task_signal", "strategy.signal=vector"],
    "task_signal, words": [
        "strategy=task_signal",
        "strategy.signal=none",
        "strategy.words=arbitrary_distinct",
    ],
    "soft_sharing": ["strategy=soft_sharing"],
    "pretrain_finetune": ["strategy=pretrain_finetune", "pretrain.tokens=0", "budget.steps=6"],
}


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return finished.world(tmp_path)


def opened(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def answers_of(model, name, rows):
    """What the model itself answers, in words and with log-probabilities."""
    task = next(task for task in model.tasks if task.name == name)
    examples = [Reader(task.config).ask(str(number), row) for number, row in enumerate(rows)]
    vocabulary, context = model.vocabulary, model.decoder.context
    store = EncodedSplit.build(
        examples, lambda example: model.encode(example, task, vocabulary, context, "answer")
    )
    for example, answer in zip(
        examples, answer_split(model, task, store, batch_tokens=512), strict=True
    ):
        names = example.choices or task.config.labels
        yield example, (names[answer.value] if names else answer.value), answer.scores


@pytest.mark.parametrize("case", RUNS)
def test_answers_equal_those_of_the_run(world, case):
    """Rows longer than the context among them."""
    model = finished.run("first", finished.EVERY, *RUNS[case])
    heads = {}
    for folder in run(["run=first", "to=out"]):
        found = load_heads(folder, *opened(folder))
        heads |= dict.fromkeys(found.tasks, found)
    assert set(heads) == set(ROWS)
    for task, rows in ROWS.items():
        for example, answer, scores in answers_of(model, task, rows):
            found = heads[task].answer(task, *example.segments, choices=example.choices)
            if task == "score":
                assert found["answer"] == pytest.approx(answer, abs=1e-5)
                continue
            assert found["answer"] == answer, (task, example)
            if scores:
                # Sums of hundreds of nats have no five digits behind the point in float32.
                expected = pytest.approx(list(scores), abs=1e-5, rel=1e-6)
                assert list(found["log_probabilities"].values()) == expected, (task, example)


@pytest.mark.parametrize(
    ("overrides", "beginning"),
    [
        (["strategy=zero_shot", "corpus=tasks"], "<|endoftext|>"),
        (["strategy=zero_shot", "corpus=tasks", "decoder.norm=post"], "<|endoftext|>"),
        (["strategy=task_signal"], "<|start|>"),
    ],
)
def test_transformers_gives_the_same_logits_and_tokens(world, overrides, beginning):
    finished.run("first", "tasks=[moods,pairs]", *overrides)
    run(["run=first", "to=out"])
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        "out", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = transformers.AutoTokenizer.from_pretrained("out")
    _, strategy = restore(Path("first"), Path("first/checkpoints/last.ckpt"))
    decoder, vocabulary = strategy.decoder.eval(), strategy.vocabulary

    tokens = torch.randint(vocabulary.size, (3, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = decoder.logits(decoder(tokens)), model.eval()(tokens).logits
        again = open_language_model(run=None, hf="out", checkpoint="best")
        exported = again.decoder.logits(again.decoder(tokens))
    assert theirs.std() > 0.1
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    assert torch.equal(exported, ours)
    assert again.vocabulary.fingerprint == vocabulary.fingerprint
    assert again.decoder.vocabulary_size == vocabulary.size == len(tokenizer)

    first = vocabulary.special(beginning)
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert ids == (first, vocabulary.end, vocabulary.end)
    for settings_of in (model.config, model.generation_config):
        own = (settings_of.bos_token_id, settings_of.eos_token_id, settings_of.pad_token_id)
        assert own == ids
    assert tokenizer.model_max_length == 64
    adding = transformers.AutoTokenizer.from_pretrained("out", add_bos_token=True)
    assert adding("sad").input_ids == [first, *vocabulary.encode("sad")]

    tokenizer.model_max_length = 10**6  # or it warns of long texts
    written = [*SPECIAL, *vocabulary.added, "sad", " grim", "\n", "日本", "  "]

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.one_of(st.sampled_from(written), st.text(max_size=20))).map("".join))
    def same(text):
        assert tokenizer(text).input_ids == vocabulary.encode(text)
        assert tokenizer.decode(vocabulary.encode(text)) == text

    same()


def test_generation_is_ours_and_ends_where_a_document_ends(world):
    finished.run("first", "tasks=[moods]", "strategy=zero_shot", "corpus=tasks")
    run(["run=first", "to=out"])
    model, tokenizer = opened("out")
    write = transformers.pipeline(
        "text-generation", model=model, tokenizer=tokenizer, return_full_text=False
    )
    found = open_language_model(run="first", hf=None, checkpoint="best")
    prompts = ["sad and", "happy", "grim, cold and more of it"]
    special = list(range(found.vocabulary.base_size, found.vocabulary.size - 1))
    ours = generate(
        found.decoder,
        [found.vocabulary.encode(prompt) for prompt in prompts],
        max_new_tokens=12,
        stop={found.vocabulary.end},
        banned=special,
    )
    theirs = write(prompts, batch_size=3, max_new_tokens=12, do_sample=False, max_length=None)
    assert [one[0]["generated_text"] for one in theirs] == [
        found.vocabulary.decode(o) for o in ours
    ]

    def prefer(token):
        """A decoder that finds ``token`` likeliest everywhere, then the end of the text."""

        def change(strategy):
            decoder, end = strategy.decoder, strategy.vocabulary.end
            with torch.no_grad():
                decoder.final_norm.bias.fill_(3.0)
                decoder.token_embedding.weight[end] = 1.0
                decoder.token_embedding.weight[strategy.vocabulary.special(token)] *= 0
                decoder.token_embedding.weight[strategy.vocabulary.special(token)] += 2.0

        return change

    for token in ("<|endoftext|>", "<|extract|>"):
        finished.run(
            f"prefers {token}",
            "tasks=[moods]",
            "strategy=zero_shot",
            "corpus=tasks",
            like=prefer(token),
        )
        run([f"run='prefers {token}'", f"to='out {token}'"])
        model, tokenizer = opened(f"out {token}")
        tokens = tokenizer("sad", return_tensors="pt")
        likeliest = int(model(**tokens).logits[0, -1].argmax())
        assert likeliest == tokenizer.convert_tokens_to_ids(token)
        written = model.generate(**tokens, max_new_tokens=8, do_sample=False)[0]
        assert written[tokens.input_ids.shape[1] :].tolist() == [tokenizer.eos_token_id]


@pytest.mark.filterwarnings("ignore")
def test_lm_evaluation_harness_scores_it_alike(world):
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    finished.run("first", "tasks=[moods]", "strategy=zero_shot", "corpus=tasks")
    run(["run=first", "to=out"])
    model = HFLM(pretrained="out", device="cpu", batch_size=2, dtype="float32", add_bos_token=True)
    requests = [("sad and", " grim"), ("happy <|endoftext|>", " warm"), ("", "cold")]
    found = model.loglikelihood(
        [
            Instance(request_type="loglikelihood", doc={}, arguments=request, idx=0)
            for request in requests
        ],
        disable_tqdm=True,
    )
    ours = open_language_model(run="first", hf=None, checkpoint="best")
    for (context, continuation), (theirs, _) in zip(requests, found, strict=True):
        before = [ours.vocabulary.end, *ours.vocabulary.encode(context)]
        answer = ours.vocabulary.encode(continuation)
        tokens = torch.tensor([[*before, *answer]])
        with torch.no_grad():
            logits = ours.decoder.logits(ours.decoder(tokens))[0].log_softmax(-1)
        expected = sum(
            logits[len(before) - 1 + place, token].item() for place, token in enumerate(answer)
        )
        assert theirs == pytest.approx(expected, abs=1e-4)


def test_the_card_can_be_followed_without_mtl(world, monkeypatch, capsys):
    """Its Python is run as it stands, in the folder, and answers what the library answers."""
    finished.run("first", finished.EVERY, "strategy=mt_dnn")
    run(["run=first", "to=out"])
    card = Path("out/README.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL))
    code = code.replace("from __future__ import annotations\n", "")
    assert "mtl" not in re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE)
    assert Path(task_heads.__file__).read_text().strip() in card
    monkeypatch.chdir("out")
    space = {"__name__": "card"}
    exec(compile(code, "card", "exec", flags=0), space)
    printed = capsys.readouterr().out
    assert printed.count("'answer'") == 6
    ours = load_heads(".", space["model"], space["tokenizer"])
    assert space["heads"].answer("pairs", "sad", "warm") == ours.answer("pairs", "sad", "warm")
