"""An index of the words of real files, built by threads while other threads query it."""

from __future__ import annotations

import os
import queue
import re
import stat
import sysconfig
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from qsbrcontainers import ConcurrentDict, ConcurrentList, share

WORD = re.compile(r"\w+")
QUERY_WORDS = 1000

Progress = Callable[[int], object]
"""Called now and then with the number of files done so far."""


class ConcurrentIndex:
    """Counts and postings in containers of this package: no lock anywhere."""

    def __init__(self):
        self.counts = ConcurrentDict()
        self.postings = ConcurrentDict()

    def add(self, number: int, words: Sequence[str]) -> None:
        """Count the *words* of file *number*, and note that they occur there."""
        incr = self.counts.incr
        for word in words:
            incr(word)
        get_or_create = self.postings.get_or_create
        for word in set(words):
            get_or_create(word, ConcurrentList).append(number)

    def find(self, word: str) -> tuple[int, int]:
        """How often *word* occurs, and in how many files."""
        return self.counts.get(word, 0), len(self.postings.get(word, ()))

    def snapshot(self) -> tuple[dict[str, int], dict[str, list[int]]]:
        """Counts and postings as plain dicts."""
        files = self.postings.snapshot()
        return self.counts.snapshot(), {word: sorted(files[word].snapshot()) for word in files}


class LockedIndex:
    """The same with dicts and one lock for both."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = defaultdict(int)
        self.postings = defaultdict(list)

    def add(self, number: int, words: Sequence[str]) -> None:
        lock, counts, postings = self.lock, self.counts, self.postings
        for word in words:
            with lock:
                counts[word] += 1
        for word in set(words):
            with lock:
                postings[word].append(number)

    def find(self, word: str) -> tuple[int, int]:
        with self.lock:
            return self.counts.get(word, 0), len(self.postings.get(word, ()))

    def snapshot(self) -> tuple[dict[str, int], dict[str, list[int]]]:
        return dict(self.counts), {word: sorted(files) for word, files in self.postings.items()}


@dataclass
class Reference:
    """The right answer, counted by one thread with ``collections.Counter``."""

    counts: Counter[str] = field(default_factory=Counter)
    postings: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    files: int = 0
    not_utf8: int = 0
    unreadable: int = 0
    seconds: float = 0.0

    @property
    def words(self) -> int:
        return self.counts.total()


@dataclass
class Job:
    """What building an index came to."""

    words: int
    seconds: float
    queries: int
    index: ConcurrentIndex | LockedIndex

    @property
    def words_per_second(self) -> float:
        return self.words / self.seconds

    @property
    def queries_per_second(self) -> float:
        return self.queries / self.seconds

    def figures(self) -> dict:
        """For JSON."""
        return {
            "words": self.words,
            "seconds": self.seconds,
            "words_per_second": self.words_per_second,
            "queries": self.queries,
            "queries_per_second": self.queries_per_second,
        }


def standard_library() -> list[str]:
    """The ``.py`` files of the running interpreter's standard library."""
    installed = {"site-packages", "dist-packages"}
    return files_in(sysconfig.get_path("stdlib"), suffix=".py", leave_out=installed)


def files_in(folder: str, suffix: str = "", leave_out: Collection[str] = ()) -> list[str]:
    """All files below *folder* whose path has no hidden part, nor one to *leave_out*.

    What cannot be looked at is listed too, and turns out to be unreadable when it is read.
    """
    found = []
    closed = []
    for parent, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = [
            name for name in folders if not name.startswith(".") and name not in leave_out
        ]
        paths = [os.path.join(parent, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.endswith(suffix) and _regular_or_unknown(path)]
    found += [error.filename for error in closed]
    return sorted(found)


def _regular_or_unknown(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


def read_words(path: str) -> list[str]:
    """The words of a file in lower case; raises OSError or UnicodeDecodeError."""
    with open(path, encoding="utf-8") as file:
        return WORD.findall(file.read().lower())


def count_alone(files: Sequence[str], progress: Progress) -> Reference:
    """Read and count all *files* in this thread."""
    result = Reference()
    start = time.perf_counter()
    for number, path in enumerate(files):
        try:
            words = read_words(path)
        except OSError:
            result.unreadable += 1
        except UnicodeDecodeError:
            result.not_utf8 += 1
        else:
            result.files += 1
            result.counts.update(words)
            for word in set(words):
                result.postings[word].append(number)
        progress(number + 1)
    result.seconds = time.perf_counter() - start
    return result


def build(
    index: ConcurrentIndex | LockedIndex,
    files: Sequence[str],
    asked: Sequence[str],
    writers: int,
    readers: int,
    progress: Progress,
) -> Job:
    """Fill *index* from *files* with *writers* threads; *readers* threads query it all along.

    The readers look up the words *asked*, over and over, until the last writer is done.
    """
    share(index)  # all threads go through this one object
    todo = queue.SimpleQueue()
    for item in enumerate(files):
        todo.put(item)
    stop = threading.Event()
    with ThreadPoolExecutor(writers + readers) as pool:
        try:
            start = time.perf_counter()
            querying = [pool.submit(_query, index, asked, stop) for _ in range(readers)]
            writing = [pool.submit(_write, index, todo, stop) for _ in range(writers)]
            while wait(writing, timeout=0.1).not_done:
                progress(len(files) - todo.qsize())
            seconds = time.perf_counter() - start
            progress(len(files))
        finally:  # after Ctrl-C too
            stop.set()
        words = sum(future.result() for future in writing)
        queries = sum(future.result() for future in querying)
    return Job(words, seconds, queries, index)


def _write(index, todo: queue.SimpleQueue, stop: threading.Event) -> int:
    written = 0
    while not stop.is_set():
        try:
            number, path = todo.get_nowait()
            words = read_words(path)
        except queue.Empty:
            break
        except (OSError, UnicodeDecodeError):
            continue
        index.add(number, words)
        written += len(words)
    return written


def _query(index, asked: Sequence[str], stop: threading.Event) -> int:
    words = WORD.findall(" ".join(asked))  # strings of this thread's own
    queries = 0
    while True:
        for word in words:
            index.find(word)
        queries += len(words)
        if stop.is_set():
            return queries


def words_to_ask(counts: Counter[str]) -> list[str]:
    """Every n-th of the words, so that frequent and rare ones are asked for."""
    words = sorted(counts)
    return words[:: max(1, len(words) // QUERY_WORDS)][:QUERY_WORDS]


def differences(reference: Reference, index: ConcurrentIndex | LockedIndex) -> Iterator[str]:
    """One sentence for each number in *index* that is not the one of *reference*."""
    counts, postings = index.snapshot()
    for word in sorted(reference.counts.keys() | counts.keys()):
        right, found = reference.counts.get(word, 0), counts.get(word, 0)
        if found != right:
            yield f"{word!a} was counted {found:,} times, one thread counts {right:,}"
    for word in sorted(reference.postings.keys() | postings.keys()):
        right, found = reference.postings.get(word, []), postings.get(word, [])
        if found != right:
            missing, extra = set(right) - set(found), Counter(found) - Counter(right)
            yield (
                f"{word!a} was found in {len(found):,} files, one thread finds it in "
                f"{len(right):,}: {len(missing):,} missing, {extra.total():,} too many"
            )
