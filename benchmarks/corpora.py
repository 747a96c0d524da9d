"""What each step of preparing a corpus costs: megabytes of text a second of processor time, on one core.

    python benchmarks/corpora.py files='gutenberg/*.parquet' root=DIR megabytes=10     without root: MTL_DATA_ROOT
    python benchmarks/corpora.py                                                       text of the microworld

Processor time of this process, so that a busy machine changes little. The text is read from the files once, then each
step runs over the same documents.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator

from _options import read_options
from _options import run as run_benchmark

from mtl.config.schema import C4Config, GopherQualityConfig, GopherRepetitionConfig
from mtl.corpora import c4, gopher
from mtl.corpora.duplicates import Signer, buckets, exact_duplicates, near_duplicates
from mtl.corpora.files import find_files
from mtl.corpora.reading import Reading, read_documents
from mtl.data.vocabulary import Vocabulary
from mtl.storage.texts import digest
from mtl.tasks import microworld
from mtl.tasks.templates import Template

DEFAULTS = {
    "files": "",
    "root": os.environ.get("MTL_DATA_ROOT", ""),
    "text": "{{ text if text is defined else article }}",
    "megabytes": "4",
    "vocabulary": "8192",
}


def documents(options: dict[str, str]) -> Iterator[str]:
    """The documents, one after the other."""
    if not options["files"]:
        for begin in range(0, 12_000, 20):
            found = microworld.documents(demonstrations=0.1, count=begin + 20)[begin:]
            yield "\n".join(found)
        return
    reading = Reading(Template(options["text"], field="text", verbatim=True))
    for path in find_files(options["files"].split(","), options["root"] or None):
        for document in read_documents(path, reading, name=path.name):
            yield document.text


def main(words: list[str]) -> None:
    """Print the table."""
    import numpy as np

    options = read_options(words, DEFAULTS)
    most = float(options["megabytes"]) * 1e6
    texts: list[str] = []
    size = 0

    def timed(step: str, work: Callable[[], object]) -> None:
        began = time.process_time()
        work()
        seconds = time.process_time() - began
        print(f"{step:<42}{seconds:>9.2f}{size / 1e6 / max(seconds, 1e-9):>11.1f}", flush=True)

    began = time.process_time()
    for text in documents(options):
        texts.append(text)
        size += len(text.encode())
        if size >= most:
            break
    seconds = time.process_time() - began
    print(f"{len(texts)} documents, {size / 1e6:.1f} MB\n")
    print(f"{'step':<42}{'seconds':>9}{'MB/second':>11}")
    print(f"{'reading':<42}{seconds:>9.2f}{size / 1e6 / seconds:>11.1f}")
    timed("c4", lambda: [c4.keep_lines(text, C4Config()) for text in texts])
    quality, repetition = GopherQualityConfig(), GopherRepetitionConfig()
    timed("gopher quality", lambda: [gopher.broken_quality(text, quality) for text in texts])
    timed(
        "gopher repetition", lambda: [gopher.broken_repetition(text, repetition) for text in texts]
    )
    digests: list[bytes] = []
    timed("digests", lambda: digests.extend(digest(text.encode()) for text in texts))
    timed("exact duplicates", lambda: exact_duplicates(np.array(digests, dtype="S16")))
    sign = Signer(5, 14 * 8)
    signatures: list[np.ndarray] = []
    timed("MinHash signatures (datasketch)", lambda: signatures.extend(map(sign, texts)))

    def compare() -> None:
        shared = buckets([np.stack(signatures)], 14, 8)
        list(near_duplicates(shared, texts.__getitem__, ngram=5, threshold=0.8))

    timed("near duplicates among candidates", compare)
    with tempfile.TemporaryDirectory() as folder:
        learnt: list[Vocabulary] = []
        number = int(options["vocabulary"])
        timed(
            f"learning {number} tokens (tokenizers)",
            lambda: learnt.append(Vocabulary.train(texts, number, root=folder)),
        )
        timed("encoding", lambda: learnt[0].prefetch(texts))


if __name__ == "__main__":
    run_benchmark(main)
