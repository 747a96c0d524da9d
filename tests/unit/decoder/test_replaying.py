"""A decoding step that is recorded once and replayed for every token writes what decoding as it comes writes.

What a CUDA graph asks of a step is asked here on a CPU: a tape notes the operators of one step with their tensors, and
runs them again without any Python of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtl.decoder import generation, replaying
from mtl.decoder.cache import FixedCache, KeyValueCache
from mtl.decoder.generation import generate
from mtl.decoder.replaying import WARM_UP, Recorded, can_replay
from mtl.learning.towers import Stitched, initial_stitches, number_layers

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 13], [4], [14, 15, 16, 17, 18]]
HOST = ("_local_scalar_dense", "lift_fresh", "nonzero", "equal", "is_nonzero", "_unique2")
"""Operators that wait for the device or bring something from the host; no recording may hold one."""
WAITING = ("tolist", "item", "numpy", "cpu", "__bool__")
"""Methods that do, and are no operator where the tensor is on a CPU."""


class Tape(TorchDispatchMode):
    """Operators in their order, with the tensors they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in HOST
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        for func, args, kwargs, before in self.calls:
            for old, new in zip(
                tree_leaves(before), tree_leaves(func(*args, **kwargs)), strict=True
            ):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Taped:
    """As :class:`Recorded` on a GPU, but that noting a step takes it, too."""

    replays = 0

    def __init__(self, work: Callable[[], None], device: torch.device):
        self.work, self.calls, self.tape = work, 0, Tape()

    def __call__(self) -> None:
        self.calls += 1
        if self.calls > WARM_UP + 1:
            Taped.replays += 1
            self.tape.replay()
        else:
            with self._noting() if self.calls == WARM_UP + 1 else nullcontext():
                self.work()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        def refused(*_: object) -> None:
            raise AssertionError("the host waits for a value")

        with pytest.MonkeyPatch.context() as patch, self.tape:
            for name in WAITING:
                patch.setattr(Tensor, name, refused)
            yield


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> type[Taped]:
    monkeypatch.setattr(generation, "can_replay", lambda decoder, new: True)
    monkeypatch.setattr(replaying, "Recorded", Taped)
    monkeypatch.setattr(Taped, "replays", 0)
    return Taped


OPTIONS = [
    {},
    {"stop": set(range(0, 50, 9))},
    {"banned": list(range(0, 50, 3))},
    {"ended": lambda row, tokens: len(tokens) == 3 + 4 * row},
    {"offsets": torch.randn(6, 32, generator=torch.Generator().manual_seed(0)) * 0.5},
    {"temperature": 1.0, "seed": 4},
    {"temperature": 1.2, "top_k": 9, "stop": set(range(0, 50, 9)), "streams": [5, 3, 8, 0, 1, 7]},
    {"temperature": 1.2, "top_p": 0.9, "ended": lambda row, tokens: len(tokens) == 3 + 4 * row},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "greedy")
@pytest.mark.parametrize("kind", ["pre", "post", "stitched"])
@pytest.mark.parametrize("repaid", [1, 32])
def test_a_replayed_step_writes_the_same(
    make: Any,
    request: pytest.FixtureRequest,
    kind: str,
    options: dict[str, Any],
    repaid: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "stitched":
        towers = [make(scale=10, seed=seed) for seed in range(2)]
        number_layers(towers)
        decoder = Stitched(towers, initial_stitches(2, 2, 0.3), 1).eval()
    else:
        decoder = make(norm=kind, scale=10)
    expected = generate(decoder, PROMPTS, max_new_tokens=30, **options)
    taped = request.getfixturevalue("taped")
    monkeypatch.setattr(replaying, "LEAST_NEW_TOKENS", repaid)
    assert generate(decoder, PROMPTS, max_new_tokens=30, **options) == expected
    assert taped.replays > 0


def test_a_replayed_step_under_autocast(make: Any, request: pytest.FixtureRequest) -> None:
    """In bfloat16 sums of other shapes differ sooner; this decoder's logits are far enough apart."""
    decoder = make(scale=10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = generate(decoder, PROMPTS, max_new_tokens=20)
        request.getfixturevalue("taped")
        assert generate(decoder, PROMPTS, max_new_tokens=20) == expected
        assert torch.is_autocast_cache_enabled()


@pytest.mark.parametrize("narrowed", [True, False])
def test_rows_stay_until_half_have_ended(
    make: Any, taped: type[Taped], monkeypatch: pytest.MonkeyPatch, narrowed: bool
) -> None:
    """Six rows that end after 3, 7, 11, ... of 30 tokens; the host looks every four steps, the first token is not of
    one."""
    if narrowed:
        monkeypatch.setattr(replaying, "LEAST_NEW_TOKENS", 1)
    decoder, rows = make(scale=10), list[int]()
    logits = decoder.logits
    generate(
        decoder,
        PROMPTS,
        max_new_tokens=30,
        ended=lambda row, tokens: len(tokens) == 3 + 4 * row,
        project=lambda hidden: rows.append(len(hidden)) or logits(hidden),
    )
    # Projected by Python: the prompts, then of each recording three steps and the one that is noted. After 12 steps
    # rows 0 to 2 have ended, after 8 more rows 3 and 4, after 4 more row 5.
    if narrowed:
        assert rows == [6, *[6] * 4, *[3] * 4, *[1] * 4]
        assert taped.replays == (12 - 4) + (8 - 4)
    else:  # too few tokens are left for another recording to be repaid
        assert rows == [6, *[6] * 4]
        assert taped.replays == 24 - 4


def test_the_host_looks_every_few_steps(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    chosen = replaying._Step.chosen

    def noted(self: Any, count: int, rows: Any) -> list[list[int]]:
        looks.append(count)
        return chosen(self, count, rows)

    monkeypatch.setattr(generation, "can_replay", lambda decoder, new: True)
    monkeypatch.setattr(replaying._Step, "chosen", noted)
    generate(make(scale=10), PROMPTS, max_new_tokens=12)
    assert looks == [4, 4, 3]  # behind the first, which the prompts give
    looks.clear()
    generate(make(scale=10), PROMPTS, max_new_tokens=5, temperature=1.0)
    assert looks == [1] * 4


def test_a_fixed_cache_reads_what_the_cache_it_is_made_of_reads(make: Any) -> None:
    decoder = make(scale=10)
    found = []
    for fixed in (False, True):
        cache: Any = KeyValueCache(3, 12)
        decoder(torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]]), cache=cache)
        cache.advance([4, 2, 3])
        cache = FixedCache(cache, torch.device("cpu")) if fixed else cache
        for token in (10, 20, 30):
            hidden = decoder(torch.tensor([[token], [token + 1], [token + 2]]), cache=cache)
            if fixed:
                cache.filled.add_(1)
            else:
                cache.advance([1, 1, 1])
        found.append(hidden)
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


def test_where_steps_are_replayed(make: Any) -> None:
    assert not can_replay(make(), 1000)  # on a CPU


def test_an_lstm_decodes_as_it_comes(make: Any, request: pytest.FixtureRequest) -> None:
    decoder = make(trunk="lstm", scale=10)
    expected = generate(decoder, PROMPTS, max_new_tokens=20)
    taped = request.getfixturevalue("taped")
    assert generate(decoder, PROMPTS, max_new_tokens=20) == expected
    assert taped.replays == 0


def test_every_call_of_a_recording_is_one_piece_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU's parts stood in for: what is asked for while a graph takes it down is not done."""
    done: list[str] = []

    class Graph:
        asked = False

        def replay(self) -> None:
            done.append("replayed")

    class Taking:
        def __init__(self, graph: Graph, capture_error_mode: str):
            self.graph = graph

        def __enter__(self) -> None:
            Graph.asked = True

        def __exit__(self, *_: object) -> None:
            Graph.asked = False

    class Stream:
        def wait_stream(self, other: Stream) -> None:
            pass

    nothing: Callable[[object], Any] = lambda _: nullcontext()  # noqa: E731
    for name, part in {
        "device": nothing,
        "stream": nothing,
        "Stream": Stream,
        "current_stream": Stream,
        "CUDAGraph": Graph,
        "graph": Taking,
    }.items():
        monkeypatch.setattr(torch.cuda, name, part)
    work = Recorded(lambda: None if Graph.asked else done.append("done"), torch.device("cuda"))
    for _ in range(6):
        work()
    assert done == [*["done"] * WARM_UP, *["replayed"] * (6 - WARM_UP)]


@pytest.mark.gpu
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "greedy")
def test_a_gpu_writes_the_same(
    make: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    decoder = make(scale=10).cuda()
    if "offsets" in options:
        options = {**options, "offsets": options["offsets"].cuda()}
    assert can_replay(decoder, 40)
    assert not can_replay(decoder, 31)
    monkeypatch.setattr(replaying, "LEAST_NEW_TOKENS", 8)
    replayed = generate(decoder, PROMPTS, max_new_tokens=40, **options)
    monkeypatch.setattr(generation, "can_replay", lambda decoder, new: False)
    assert replayed == generate(decoder, PROMPTS, max_new_tokens=40, **options)
