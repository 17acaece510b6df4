"""MLPerf's LoadGen in a process of its own: it is C++ with one state a process, and nothing ends a test of it but its own end or the
process's.

Reads a Job, pickled, from stdin; writes lists of Sent, pickled, to stdout as they come, and None when LoadGen has ended well. LoadGen's
own files are in the job's folder then. Ctrl-C is for the process that started this one.
"""

import os
import pickle
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import mlperf_loadgen

from yoloperf.offload.exchange import Connection, Exchange, Request

_SEND_EVERY_S = 0.2
_UNUSED = Request("", {}, b"", "", 0)  # in place of the request on the way back: the parent has it


@dataclass(frozen=True)
class Job:
    """settings: attributes of LoadGen's TestSettings; scenario: member of its TestScenario; warm: connections opened beforehand."""

    url: str
    requests: list[Request]
    scenario: str
    settings: dict[str, Any]
    connections: int
    warm: int
    timeout_s: float
    folder: str


@dataclass(frozen=True)
class Sent:
    """number: place in LoadGen's order; index: which of the requests; handed_at: when LoadGen gave it out, told_at: just before LoadGen
    was told of the answer, monotonic seconds, which the parent shares; starved: every connection was in use then."""

    number: int
    index: int
    handed_at: float
    told_at: float
    starved: bool
    exchange: Exchange


class _Pool:
    """Threads with a connection each, more of them when all are busy, up to a limit."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.todo: queue.SimpleQueue[tuple[int, int, int, float, bool]] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.threads = self.unfinished = self.number = 0
        self.done: list[Sent] = []
        for _ in range(job.warm):
            self._start()

    def _start(self) -> None:
        self.threads += 1
        threading.Thread(target=self._work, daemon=True).start()

    def issue(self, samples: list[Any]) -> None:
        handed_at = time.monotonic()
        for sample in samples:
            with self.lock:
                self.unfinished += 1
                starved = self.unfinished > self.job.connections
                if self.unfinished > self.threads and not starved:
                    self._start()
            self.todo.put((self.number, sample.id, sample.index, handed_at, starved))
            self.number += 1

    def _work(self) -> None:
        with Connection(self.job.url, self.job.timeout_s) as connection:
            connection.try_open()
            while True:
                number, identity, index, handed_at, starved = self.todo.get()
                exchange = connection.exchange(self.job.requests[index])
                with self.lock:
                    self.unfinished -= 1  # before LoadGen hears of it, which may at once hand out the next
                told_at = time.monotonic()
                mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(identity, 0, 0)])
                with self.lock:
                    self.done.append(Sent(number, index, handed_at, told_at, starved, exchange))

    def take(self) -> list[Sent]:
        with self.lock:
            done, self.done = self.done, []
        return [replace(sent, exchange=_light(sent.exchange)) for sent in done]


def _light(exchange: Exchange) -> Exchange:
    """Without what the parent knows already or does not read."""
    told = exchange.payload if isinstance(exchange.payload, dict) else {}
    return replace(exchange, request=_UNUSED, payload={key: value for key, value in told.items() if key != "results"})


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job: Job = pickle.load(sys.stdin.buffer)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # whatever a library prints must not get between the pickles
        sys.setswitchinterval(0.0005)  # a request crosses two threads, and the default of 5 ms may be waited for at each
        pool, ended = _Pool(job), threading.Event()

        def report() -> None:
            last = False
            while not last:
                last = ended.wait(_SEND_EVERY_S)
                try:
                    pickle.dump(pool.take(), answers)
                    answers.flush()
                except BrokenPipeError:
                    os._exit(1)  # nobody listens any more, and LoadGen cannot be stopped

        reporter = threading.Thread(target=report)
        reporter.start()
        time.sleep(0.05 if job.warm else 0.0)
        _run(job, pool)
        ended.set()
        reporter.join()
        pickle.dump(None, answers)
    os._exit(0)  # threads that wait for nothing more need no good-bye


def _run(job: Job, pool: _Pool) -> None:
    settings = mlperf_loadgen.TestSettings()
    settings.scenario = getattr(mlperf_loadgen.TestScenario, job.scenario)
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    for name, value in job.settings.items():
        setattr(settings, name, value)
    logs = mlperf_loadgen.LogSettings()
    logs.enable_trace = True
    logs.log_output.outdir = job.folder
    logs.log_output.copy_summary_to_stdout = False
    system = mlperf_loadgen.ConstructSUT(pool.issue, lambda: None)
    samples = mlperf_loadgen.ConstructQSL(len(job.requests), len(job.requests), lambda _: None, lambda _: None)
    mlperf_loadgen.StartTestWithLogSettings(system, samples, settings, logs, "")
    mlperf_loadgen.DestroyQSL(samples)
    mlperf_loadgen.DestroySUT(system)


if __name__ == "__main__":
    main()
