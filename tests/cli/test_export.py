"""``python -m mtl.export`` and what reads its folders again: exact files, exact errors, nothing half-written."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import finished
import moods

from mtl.assembly import load_data, make_strategy
from mtl.config.compose import compose
from mtl.config.errors import UserError
from mtl.config.schema import DecoderConfig, FitConfig
from mtl.decoder.gpt import Decoder
from mtl.decoder.huggingface import save_pretrained
from mtl.export import run
from mtl.opening import open_language_model
from mtl.record import card
from mtl.starting import starting_point

FILES = [
    "README.md",
    "config.json",
    "generation_config.json",
    "heads.json",
    "heads.safetensors",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]
MOODS = "tasks=[moods,pairs]"


@pytest.fixture(autouse=True)
def _world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished.world(tmp_path)


def export(*arguments):
    return moods.command("export", *arguments)


def mistake(*arguments):
    """The message, without the place the test stands in; nothing may have been written."""
    before = moods.tree(".")
    status, out, err = export(*arguments)
    assert (status, out) == (2, ""), err
    assert moods.tree(".") == before
    return err.replace(str(Path.cwd()), "CWD").splitlines()


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_run_becomes_a_folder():
    finished.run("first", MOODS, "strategy=mt_dnn")
    status, out, err = export("run=first", "to=deep/out")
    assert (status, err) == (0, "")
    place = Path.cwd() / "deep" / "out"
    assert out.splitlines() == [
        str(place),
        f"  {', '.join(FILES)}",
        f"  AutoModelForCausalLM.from_pretrained('{place}')",
    ]
    assert names("deep") == ["out"]
    assert names("deep/out") == FILES
    Path("empty").mkdir()
    assert export("run=first", "to=empty")[0] == 0
    assert moods.tree("empty").keys() == moods.tree("deep/out").keys()


def test_the_card_says_what_the_run_recorded():
    from huggingface_hub import ModelCard

    finished.run("first", MOODS, "strategy=hard_sharing")
    run(["run=first", "to=out"])
    found = ModelCard.load("out/README.md")
    assert found.data.library_name == "transformers"
    assert found.data.pipeline_tag == "text-generation"
    (moods_result, pairs_result) = found.data.eval_results
    assert (moods_result.dataset_name, moods_result.dataset_split) == ("moods", "validation")
    assert (moods_result.metric_type, moods_result.metric_value) == ("accuracy", 0.5)
    assert pairs_result.metric_args == {"low": 0.25, "high": 0.75}
    for said in (
        "| moods | accuracy \\* | 0.500 [0.250, 0.750] | 0.250 | 0.300 | 24 |",
        "- strategy: hard_sharing, heads=own",
        "- seed: 0",
        "- commit of mtl: c0ffee, the code differed from it",
        "- checkpoint: last",
        "These are scores of the best checkpoint; the weights here are the last.",
        "not clearly better than chance and majority: moods, pairs",
        "- pairs: `<|start|>{{ first }}<|delimiter|>{{ second }}<|extract|>`; head pairs reads the last state",
    ):
        assert said in found.content, said
    assert str(Path.cwd()) not in found.content


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            [],
            "`<|task:moods|>{{ text }}<|extract|>`; the answer is the likeliest continuation, with ",
        ),
        (["strategy.signal=vector"], "; a vector of the task is added to the embedding of every "),
    ],
)
def test_the_card_says_how_a_signal_is_written(overrides, said):
    finished.run("first", "tasks=[moods]", "strategy=task_signal", *overrides)
    run(["run=first", "to=out"])
    assert said in Path("out/README.md").read_text()
    assert Path("out/heads.safetensors").exists() == bool(overrides)


def test_a_decoder_for_each_task_is_a_folder_for_each_task():
    chosen = ["strategy=pretrain_finetune", "pretrain.tokens=0", "budget.steps=2"]
    finished.run("first", MOODS, *chosen)
    status, out, _ = export("run=first", "to=out")
    assert status == 0
    assert out.splitlines()[::3] == [str(Path.cwd() / "out" / task) for task in ("moods", "pairs")]
    assert names("out") == ["README.md", "moods", "pairs"]
    assert names("out/pairs") == FILES
    assert list(json.loads(Path("out/pairs/heads.json").read_text())["tasks"]) == ["pairs"]
    whole, own = (Path(place, "README.md").read_text() for place in ("out", "out/pairs"))
    assert "- [moods](moods/README.md)\n- [pairs](pairs/README.md)" in whole
    assert "| moods | accuracy" in whole
    assert "| moods | accuracy" not in own
    one, two = (
        open_language_model(run=None, hf=f"out/{t}", checkpoint="best") for t in ("moods", "pairs")
    )
    assert not torch.equal(one.decoder.token_embedding.weight, two.decoder.token_embedding.weight)


def test_which_checkpoint_is_exported():
    finished.run("first", "tasks=[moods]", "strategy=zero_shot", "corpus=tasks")
    last = Path("first/checkpoints/last.ckpt")
    saved = torch.load(last, weights_only=True)
    saved["state_dict"] = {key: -weight for key, weight in saved["state_dict"].items()}
    torch.save(saved, last.with_name("best.ckpt"))
    run(["run=first", "to=best"])
    run(["run=first", "to=last", "checkpoint=last"])
    best, last = (
        open_language_model(run=None, hf=name, checkpoint="best").decoder
        for name in ("best", "last")
    )
    assert torch.equal(best.token_embedding.weight, -last.token_embedding.weight)
    assert "scores of the best" not in Path("best/README.md").read_text()
    assert "These are scores of the best checkpoint" in Path("last/README.md").read_text()


@pytest.mark.parametrize("ending", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_is_left_of_an_export_that_fails(monkeypatch, ending):
    finished.run("first", "tasks=[moods]", "strategy=mt_dnn")
    before = moods.tree(".")

    def fail(_):
        raise ending

    monkeypatch.setattr(card, "model_card", fail)
    status, out, err = export("run=first", "to=out")
    assert moods.tree(".") == before
    if isinstance(ending, OSError):
        assert (status, out) == (2, "")
        place = Path.cwd() / "out"
        assert err == f"error: {place} cannot be written: No space left on device (to=out)\n"


def test_places_that_are_taken():
    finished.run("first", "tasks=[moods]", "strategy=mt_dnn")
    moods.write("full/notes.txt", "mine")
    free = "  name a folder that does not exist yet, or an empty one"
    assert mistake("run=first", "to=full") == ["error: CWD/full is not empty (to=full)", free]
    assert mistake("run=first", "to=first") == ["error: CWD/first is not empty (to=first)", free]
    assert mistake("run=first", "to=full/notes.txt/out") == [
        "error: CWD/full/notes.txt is a file (to=full/notes.txt/out)",
        free,
    ]


def test_runs_that_cannot_be_exported():
    assert (
        mistake("run=nothing", "to=out")[0] == "error: there is no run folder nothing (run=nothing)"
    )
    finished.run("first", "tasks=[moods]", "strategy=mt_dnn")
    Path("first/summary.json").unlink()
    assert mistake("run=first", "to=out") == [
        "error: first has no summary.json: the run has not come to its end",
        "  go on with it: python -m mtl.fit resume=first",
    ]
    finished.run("lstm", "tasks=[moods]", "strategy=mt_dnn", "decoder.trunk=lstm")
    assert mistake("run=lstm", "to=out") == [
        "error: transformers has no causal language model with the trunk 'lstm' (run=lstm)",
        "  only decoders with decoder.trunk=transformer can be written as a Hugging Face folder",
    ]
    chosen = ["strategy=soft_sharing", "strategy.sharing=cross_stitch"]
    finished.run("stitched", MOODS, *chosen)
    assert mistake("run=stitched", "to=out") == [
        "error: transformers has no causal language model whose blocks read other decoders (run=stitched)",
        "  only decoders that compute alone can be written as a Hugging Face folder",
    ]


@pytest.mark.parametrize("strategy", ["zero_shot", "single_task"])
def test_a_checkpoint_and_a_tokenizer_that_disagree(strategy):
    first = finished.run("first", MOODS, f"strategy={strategy}", "corpus=tasks", "budget.steps=2")
    first.vocabulary.with_special(["<|another|>"]).save("first/tokenizer")
    size = first.vocabulary.size
    expected = [
        f"error: the checkpoint knows {size} tokens, the run's tokenizer {size + 1} (first/checkpoints/last.ckpt)",
        "  the tokenizer/ in the run folder is not the one the run was trained with",
    ]
    assert mistake("run=first", "to=out") == expected
    for verb, *more in (("evaluate",), ("predict", "task=moods", "text=sad")):
        status, _, err = moods.command(verb, "run=first", *more)
        assert (status, err.splitlines()) == (2, expected)
    with pytest.raises(UserError) as raised:
        open_language_model(run="first", hf=None, checkpoint="best")
    assert f"error: {raised.value}".splitlines() == expected


def started(*overrides):
    """The starting point of a run."""
    config = compose("fit", FitConfig, [*moods.SMALL, MOODS, *overrides], config_dir="mine")
    return starting_point(config, load_data(config, make_strategy(config)))


def test_a_run_that_goes_on_from_a_folder_begins_where_the_run_ended():
    """As ``init_from=`` does: the tokens that a strategy added are known again where they are wanted again."""
    first = finished.run("first", MOODS, "strategy=task_signal")
    run(["run=first", "to=out"])
    again = ["decoder.pretrained=out", "tokenizer=folder", "tokenizer.folder=out", "budget.steps=1"]
    for strategy in ("task_signal", "hard_sharing"):
        ours = started(f"strategy={strategy}", *again)
        other = started(f"strategy={strategy}", "init_from=first", "budget.steps=1")
        assert ours.base.fingerprint == other.base.fingerprint == first.vocabulary.base.fingerprint
        mine, theirs = ours.decoder.state_dict(), other.decoder.state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert ours.added.keys() == other.added.keys() == {"<|task:moods|>", "<|task:pairs|>"}
        assert all(torch.equal(ours.added[token], other.added[token]) for token in ours.added)
    status, _, err = moods.command(
        "fit",
        "--config-dir",
        "mine",
        *moods.SMALL,
        MOODS,
        "strategy=task_signal",
        *again,
        "run_dir=again",
    )
    assert status == 0, err
    run(["run=again", "to=and again"])
    assert "- start: out\n" in Path("and again/README.md").read_text()


def test_a_decoder_and_a_tokenizer_that_disagree():
    first = finished.run("first", MOODS, "strategy=task_signal")
    run(["run=first", "to=out"])
    right = "  give the tokenizer it was trained with: tokenizer=folder tokenizer.folder=out"

    def refused(*overrides):
        before = moods.tree(".")
        status, out, err = moods.command(
            "fit",
            "--config-dir",
            "mine",
            *moods.SMALL,
            MOODS,
            "strategy=mt_dnn",
            "budget.steps=1",
            *overrides,
        )
        assert (status, out) == (2, "")
        assert moods.tree(".") == before
        return err.splitlines()

    size, base = first.vocabulary.size, first.vocabulary.base_size
    # moods.SMALL trains a vocabulary of 300 tokens.
    assert refused("decoder.pretrained=out") == [
        f"error: the pretrained decoder knows {size} tokens, the tokenizer 300 (304 with special tokens) "
        "(decoder.pretrained=out)",
        right,
    ]
    # As many tokens, but other ones.
    chosen = ["tasks=[moods]", f"tokenizer.vocabulary={base}"]
    assert refused("decoder.pretrained=out", *chosen) == [
        f"error: the tokenizer is not the one of the pretrained decoder, though both know {base} tokens "
        "(decoder.pretrained=out)",
        right,
    ]


def test_a_decoder_with_gpt2s_vocabulary_is_opened_as_it_is(data_root):
    tokenizer = data_root / "gpt2_tokenizer"
    if not tokenizer.is_dir():
        pytest.skip("GPT-2's tokenizer files are not in MTL_DATA_ROOT")
    shape = DecoderConfig(name="random", layers=1, width=8, heads=2, context=16)
    decoder = Decoder(shape, 50257, seed=3)
    save_pretrained(decoder, "gpt2")
    for name in ("vocab.json", "merges.txt"):
        Path("gpt2", name).write_bytes((tokenizer / name).read_bytes())
    found = open_language_model(run=None, hf="gpt2", checkpoint="best")
    assert found.decoder.vocabulary_size == 50257
    assert torch.equal(found.decoder.token_embedding.weight, decoder.token_embedding.weight)
    assert (found.vocabulary.end, found.vocabulary.encode("Hello world")) == (50256, [15496, 995])
    chosen = [
        "decoder.layers=1",
        "decoder.width=8",
        "decoder.context=16",
        "decoder.pretrained=gpt2",
    ]
    started_from = started(
        "strategy=mt_dnn", "budget.steps=1", "tokenizer=folder", "tokenizer.folder=gpt2", *chosen
    )
    rows = started_from.decoder.token_embedding.weight
    assert (started_from.base.size, rows.shape[0]) == (50260, 50260)
    assert torch.equal(rows[:50257], decoder.token_embedding.weight)
