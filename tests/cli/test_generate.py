"""``python -m mtl.generate`` with finished runs and a Hugging Face folder: what is written, and every mistake."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import elsewhere
import moods

from mtl import generate, opening
from mtl.decoder.huggingface import save_pretrained

RUN = "run=zero_shot"
SHORT = "max_new_tokens=12"


@pytest.fixture(autouse=True)
def world(tmp_path_factory, monkeypatch):
    """The tests stand beside the finished runs and change nothing there."""
    folder = moods.world(tmp_path_factory)
    monkeypatch.chdir(folder)
    before = moods.tree(folder)
    yield folder
    assert moods.tree(folder) == before


def texts(*arguments, given="", said=""):
    status, out, err = moods.command("generate", *arguments, given=given)
    assert (status, err) == (0, said)
    return [json.loads(line) for line in out.splitlines()]


def mistake(*arguments, given=""):
    status, out, err = moods.command("generate", *arguments, given=given)
    assert (status, out) == (2, ""), err
    return err.splitlines()


def model():
    return opening.open_language_model(run="zero_shot", hf=None, checkpoint="best")


def test_one_object_for_each_sample():
    found = texts(RUN, "prompt=I feel", SHORT, "samples=3", "seed=5")
    keys = ["prompt", "sample", "text", "tokens", "stopped_by", "seed"]
    assert [list(text) for text in found] == [keys] * 3
    assert [(t["prompt"], t["sample"], t["seed"]) for t in found] == [
        ("I feel", number, 5) for number in (1, 2, 3)
    ]
    assert len({text["text"] for text in found}) == 3
    for text in found:
        assert (text["tokens"] == 12) == (text["stopped_by"] is None)
        assert text["stopped_by"] in (None, "<|endoftext|>")


def test_a_document_from_its_beginning():
    (found,) = texts(RUN, SHORT)
    assert found["prompt"] is None
    assert found["text"]


def test_the_text_is_that_of_the_decoder_read_again_for_each_token():
    """A run's prompt stands behind an end token, as every text it was trained on."""
    import torch

    opened = model()
    vocabulary, decoder = opened.vocabulary, opened.decoder
    tokens = [vocabulary.end, *vocabulary.encode("grim sad")]
    begin = len(tokens)
    with torch.no_grad():
        while len(tokens) < begin + 12:
            logits = decoder.logits(decoder(torch.tensor([tokens]))[0, -1])
            token = int(logits[: vocabulary.base_size].argmax())
            if logits[vocabulary.end] >= logits[token]:
                break
            tokens.append(token)
    (found,) = texts(RUN, "prompt=grim sad", SHORT, "temperature=0")
    assert found["text"] == vocabulary.decode(tokens[begin:])


@pytest.mark.parametrize("temperature", ["0", "2.0"])
def test_special_tokens_are_never_written(monkeypatch, temperature):
    """Not even where the decoder would write nothing else: the text is the one without them."""
    ask = (RUN, SHORT, "seed=3", f"temperature={temperature}")
    expected = texts(*ask)
    opened = model()
    plain, size = opened.decoder.logits, opened.decoder.vocabulary_size
    special = opened.vocabulary.unwritten(size)
    own = [opened.vocabulary.start, opened.vocabulary.delimiter, opened.vocabulary.extract]
    assert set(special) >= set(own)

    def likely(hidden):
        logits = plain(hidden)
        logits[:, special] += 50
        return logits

    monkeypatch.setattr(opened.decoder, "logits", likely)
    monkeypatch.setattr(opening, "open_language_model", lambda **_: opened)
    assert texts(*ask) == expected


def test_precision_is_that_of_the_matrices():
    """Of a decoder so narrow, ``auto`` is float32 on any machine."""
    from mtl.decoder.generation import generate as written
    from mtl.decoder.layout import laid_out_for_writing

    opened = model()
    vocabulary, decoder = opened.vocabulary, opened.decoder
    prompt = [vocabulary.end, *vocabulary.encode("warm")]
    found = {
        precision: [
            text["text"]
            for text in texts(
                RUN,
                "prompt=warm",
                "max_new_tokens=30",
                "samples=64",
                "batch=64",
                f"precision={precision}",
            )
        ]
        for precision in ("32", "bf16", "auto")
    }
    with laid_out_for_writing(decoder, "bf16"):
        expected = written(
            decoder,
            [prompt] * 64,
            max_new_tokens=30,
            stop={vocabulary.end},
            banned=vocabulary.unwritten(decoder.vocabulary_size),
            streams=[sample << 32 for sample in range(64)],
            temperature=1.0,
        )
    assert found["bf16"] == [vocabulary.decode(tokens) for tokens in expected]
    assert found["bf16"] != found["32"]
    assert found["auto"] == found["32"]


def test_the_seed_decides(tmp_path):
    ask = (RUN, "prompt=warm", SHORT, "samples=2")
    first, again, other = (texts(*ask, f"seed={seed}") for seed in (1, 1, 2))
    assert first == again
    assert [text["text"] for text in first] != [text["text"] for text in other]


def test_batches_other_prompts_and_more_samples_change_no_text(tmp_path):
    prompts = ["sad", "happy, warm and bright", "grim", "I am so cold that", "fine"]
    file = moods.write(tmp_path / "prompts.txt", "".join(f"{text}\n" for text in prompts))
    ask = (RUN, f"file={file}", SHORT, "stop=[a]")
    whole = texts(*ask, "samples=3")
    assert [(t["prompt"], t["sample"]) for t in whole] == [
        (p, number) for p in prompts for number in (1, 2, 3)
    ]
    for batch in (1, 4):
        assert texts(*ask, "samples=3", f"batch={batch}") == whole
    assert texts(*ask) == whole[::3]
    assert texts(RUN, "prompt=sad", SHORT, "stop=[a]", "samples=3") == whole[:3]


def test_every_form_of_prompts_gives_the_same_texts(tmp_path):
    prompts = ["sad grim", 'fine "lovely"']
    rows = [{"prompt": text, "id": 1} for text in prompts]
    moods.write(tmp_path / "rows.txt", "".join(f"{text}\n" for text in prompts))
    moods.write(tmp_path / "rows.jsonl", moods.lines(rows))
    expected = texts(RUN, SHORT, f"file={tmp_path / 'rows.txt'}")
    assert texts(RUN, SHORT, f"file={tmp_path / 'rows.jsonl'}") == expected
    for given in ("\n".join(prompts), f"{prompts[0]}\n{json.dumps(rows[1])}\n"):
        assert texts(RUN, SHORT, "file=-", given=given) == expected
    assert generate.run([RUN, SHORT, f"file={tmp_path / 'rows.txt'}"]) == expected


def test_stop_texts_end_a_text_and_do_not_belong_to_it():
    ask = (RUN, "prompt=I feel", "max_new_tokens=40", "samples=8")
    free = texts(*ask)
    stopped = texts(*ask, "stop=[' ', 'e']")
    assert any(text["stopped_by"] == " " for text in stopped)
    for whole, text in zip(free, stopped, strict=True):
        places = [whole["text"].find(stop) for stop in (" ", "e") if stop in whole["text"]]
        assert text["text"] == whole["text"][: min(places, default=None)]
        assert text["tokens"] <= whole["tokens"]
    newline = texts(*ask, 'stop=["\n"]')
    assert all("\n" not in text["text"] for text in newline)


def test_a_backslash_in_a_stop_text_is_pointed_out():
    said = "note: the stop text \\n holds a backslash and an n; a line end is written $'stop=[\"\\n\"]'\n"
    texts(RUN, SHORT, r'stop=["\n"]', said=said)


def test_out_holds_the_same_lines(tmp_path):
    ask = (RUN, "prompt=sad", SHORT, "samples=2")
    file = tmp_path / "texts.jsonl"
    status, out, err = moods.command("generate", *ask, f"out={file}")
    assert (status, out, err) == (0, f"2 continuations in {file}\n", "")
    assert [json.loads(line) for line in file.read_text("utf-8").splitlines()] == texts(*ask)
    assert [path.name for path in tmp_path.iterdir()] == ["texts.jsonl"]
    assert generate.run([*ask, "seed=1", f"out={file}"]) == [
        json.loads(line) for line in file.read_text("utf-8").splitlines()
    ]


def test_what_lies_before_the_context_is_counted_and_said(tmp_path):
    vocabulary = model().vocabulary
    long = "sad grim " * 60
    size, room = len(vocabulary.encode(long)), 64 - 12 - 1
    file = moods.write(tmp_path / "rows.txt", f"sad\n{long}\n")
    said = (
        f"prompt 2: the first {size - room} of {size} tokens are beyond the context of 64 "
        "(12 new ones included) and are not read\n"
    )
    short, cut = texts(RUN, SHORT, f"file={file}", said=said)
    assert "tokens_cut" not in short
    assert (cut["prompt"], cut["tokens_cut"]) == (long, size - room)
    # What is read is the end of it: the same text behind more of the same.
    kept = vocabulary.decode(vocabulary.encode(long)[-room:])
    assert len(vocabulary.encode(kept)) == room
    (alone,) = texts(RUN, SHORT, f"prompt='{kept}'", "temperature=0")
    (whole,) = texts(RUN, SHORT, f"prompt='{long}'", "temperature=0", said=said.replace("2:", "1:"))
    assert alone["text"] == whole["text"]


def test_a_prompt_that_just_fits_is_read_whole():
    vocabulary = model().vocabulary
    word = "sad grim " * 60
    prompt = vocabulary.decode(vocabulary.encode(word)[: 64 - 12 - 1])
    assert "tokens_cut" not in texts(RUN, SHORT, f"prompt='{prompt}'")[0]


@pytest.mark.parametrize("run", ["task_signal", "mt_dnn"])
def test_every_run_with_one_decoder_writes(run):
    (found,) = texts(f"run={run}", "prompt=sad", SHORT)
    assert found["tokens"] <= 12


def test_a_hugging_face_folder_reads_the_prompt_as_it_is_written(tmp_path):
    """As ``transformers`` does: nothing stands before it. Its vocabulary may be smaller than the decoder's."""
    import torch
    import transformers

    opened = model()
    save_pretrained(opened.decoder, tmp_path)
    opened.vocabulary.save(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokens = torch.tensor([opened.vocabulary.encode("happy, warm")])
    written = theirs.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=opened.vocabulary.end,
        pad_token_id=0,
        suppress_tokens=opened.vocabulary.unwritten(opened.decoder.vocabulary_size),
    )[0, tokens.shape[1] :].tolist()
    (found,) = texts(f"hf={tmp_path}", "prompt='happy, warm'", SHORT, "temperature=0")
    assert found["text"] == opened.vocabulary.decode(written)
    (free,) = texts(f"hf={tmp_path}", SHORT)
    assert free["prompt"] is None


def test_prompts_that_cannot_be_read(tmp_path):
    rows = moods.write(tmp_path / "rows.jsonl", '{"prompt": "sad"}\n{"text": "sad"}\n')
    assert mistake(RUN, f"file={rows}") == [
        f"error: the column 'prompt' is missing ({rows}, row 2)",
        "  found: text",
    ]
    moods.write(rows, '{"prompt": "sad"}\n{"prompt": 3}\n')
    assert mistake(RUN, f"file={rows}") == [
        f"error: the prompt must be a text, found 3 ({rows}, row 2)"
    ]
    hint = "  a document is written from its beginning where neither prompt nor file is given"
    lines = moods.write(tmp_path / "rows.txt", "sad\n\ngrim\n")
    assert mistake(RUN, f"file={lines}") == [
        f"error: the prompt is empty ({lines}, row 2)",
        hint,
    ]
    assert mistake(RUN, "file=-", given="\n") == [
        "error: the prompt is empty (standard input, line 1)",
        hint,
    ]
    assert mistake(RUN, "file=-") == ["error: there is no prompt in it (file=-)"]
    assert mistake(RUN, "file=no.txt") == ["error: there is no file no.txt (file=no.txt)"]
    first, *_ = mistake(RUN, "file=-", given='sad\n{"prompt"}\n')
    assert first.startswith("error: not valid JSON: ")
    assert first.endswith("(standard input, line 2)")


def test_mistakes(tmp_path):
    assert mistake("run=nothing")[0] == "error: there is no run folder nothing (run=nothing)"
    assert mistake(RUN, "max_new_tokens=64") == [
        "error: 64 new tokens leave no room for a prompt in the context of 64 (max_new_tokens=64)",
        "  right would be: max_new_tokens=63 or less",
    ]
    assert mistake(RUN, "prompt=sad", "max_new_tokens=63") == [
        "error: 63 new tokens leave no room for a prompt in the context of 64 (max_new_tokens=63)",
        "  right would be: max_new_tokens=62 or less",
    ]
    assert mistake(RUN, f"out={tmp_path}") == [
        f"error: {tmp_path} is a folder (out={tmp_path})",
        "  name a file in it",
    ]
    assert mistake(RUN, "out=nowhere/texts.jsonl") == [
        "error: there is no folder nowhere (out=nowhere/texts.jsonl)"
    ]


def test_a_run_with_a_decoder_for_each_task_writes_nothing(tmp_path):
    chosen = ["tasks=[moods,echo]", "strategy=single_task", f"run_dir={tmp_path / 'alone'}"]
    steps = ["budget.steps=4", "optimizer.learning_rate=0.01", "evaluation.times=1"]
    status, _, err = moods.command("fit", "--config-dir", "mine", *moods.SMALL, *chosen, *steps)
    assert status == 0, err
    assert mistake(f"run={tmp_path / 'alone'}") == [
        "error: that run has a decoder for each task, so there is no one decoder that reads and writes text "
        f"(run={tmp_path / 'alone'})",
        "  name a run in which all tasks share a decoder",
    ]


def test_a_process_says_what_it_says_in_this_one(world):
    arguments = [RUN, "prompt=sad", SHORT]
    surroundings = {**os.environ, "PYTHONPATH": str(moods.ROOT)}
    done = elsewhere.python("-m", "mtl.generate", *arguments, env=surroundings)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == texts(*arguments)
