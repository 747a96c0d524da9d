"""``python`` in a process of its own that costs a run and no start: it is forked from a server that has imported the
libraries once.

For a test whose subject is what a command does. One that asks what is imported, how long a start takes, which hashes a
string has, or how a launcher starts others wants a fresh interpreter: :mod:`subprocess`.
"""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
import types
from multiprocessing import forkserver
from pathlib import Path

TESTS = Path(__file__).resolve().parent
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "mtl.execution",
        "mtl.config.check",
        "mtl.answering",
        "mtl.learning.exporting",
        "mtl.record.tracking",
        "mlflow",
        "mlflow.store.tracking.sqlalchemy_store",
        "sacrebleu",
        "rouge_score.rouge_scorer",
        "sklearn.linear_model",
        "mtl.config.command_line",
        "matplotlib.backends.backend_agg",
        "pytest",
    ]
)


def start(target, *arguments):
    """Call a function of an importable module in a process of its own.

    :return: The process, as :mod:`multiprocessing` gives it.
    """
    with _checkout_can_be_imported():
        forkserver.ensure_running()
    process = _context.Process(target=target, args=arguments)
    process.start()
    return process


def queue():
    """What such processes can put things into."""
    return _context.SimpleQueue()


def python(*words, cwd=None, env=None, given="", timeout=280, check=False, first=None):
    """``python WORDS``, as :func:`subprocess.run` does it with text and captured output.

    :param words: ``-m MODULE ...``, ``-c TEXT ...`` or ``FILE ...``.
    :param env: The whole environment; None is that of this process. Libraries have been imported under the one in
        which the first such process was started.
    :param given: Standard input.
    :param first: (function of an importable module, arguments): called in the process before the rest.
    """
    words = [str(word) for word in words]
    env = dict(os.environ if env is None else env)
    with tempfile.TemporaryDirectory(prefix="mtl-elsewhere-") as folder:
        into, out, err = (Path(folder, name) for name in ("in", "out", "err"))
        into.write_text(given, encoding="utf-8")
        streams = tuple(map(str, (into, out, err)))
        process = start(_main, words, str(Path(cwd or ".").absolute()), env, streams, first)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            process.close()
            raise subprocess.TimeoutExpired(shlex.join(words), timeout, _read(out), _read(err))
        done = subprocess.CompletedProcess(words, process.exitcode, _read(out), _read(err))
        process.close()
    if check:
        done.check_returncode()
    return done


def _read(file):
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


@contextlib.contextmanager
def _checkout_can_be_imported():
    """The server looks for what it imports where a new interpreter looks."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), *filter(None, [before])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _main(words, cwd, env, streams, first):
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    # The server's own streams are closed to this process.
    flags = (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_TRUNC] * 2)
    for number, (path, how) in enumerate(zip(streams, flags, strict=True)):
        opened = os.open(path, how, 0o600)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", buffering=1, encoding="utf-8", closefd=False) for number in (1, 2)
    )
    try:
        if first is not None:
            function, *rest = first
            function(*rest)
        _interpret(words, cwd, env)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise SystemExit(1) from None
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()


def _interpret(words, cwd, env):
    script = words[0] not in ("-m", "-c")
    here = str(Path(words[0]).absolute().parent) if script else cwd
    named = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    others = [path for path in sys.path if path and not Path(path).is_relative_to(TESTS)]
    sys.path[:] = [here, *named, *others]
    if script:
        sys.argv[:] = words
        runpy.run_path(words[0], run_name="__main__")
    elif words[0] == "-m":
        sys.argv[:] = words[1:]
        sys.modules.pop(words[1], None)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = ["-c", *words[2:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), main.__dict__)
