"""The recorder of spans and counters."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from distgrad.observe import Recorder, recorder


@pytest.fixture
def on() -> Recorder:
    """A recorder that is switched on."""
    recorder = Recorder()
    recorder.enabled = True
    return recorder


def test_the_default_recorder_is_off() -> None:
    assert not recorder.enabled


def test_a_recorder_that_is_off_keeps_nothing() -> None:
    off = Recorder()
    with off.span("forward"):
        off.add("calls")
    off.record("wait", 1, 2)
    assert off.spans() == []
    assert off.counters() == {}


def test_a_recorder_that_is_off_makes_no_object_for_a_span() -> None:
    off = Recorder()
    assert off.span("a") is off.span("b", shard="x")


def test_a_span_lies_between_the_readings_of_the_clock_around_it(on: Recorder) -> None:
    before = on.now()
    with on.span("forward", shard="a", microbatch=3):
        inside = on.now()
    after = on.now()
    (span,) = on.spans()
    assert (span.name, dict(span.attributes)) == ("forward", {"shard": "a", "microbatch": 3})
    assert before <= span.start <= inside <= span.end <= after
    assert span.thread == threading.get_ident()


def test_nested_spans_are_kept_in_the_order_in_which_they_end(on: Recorder) -> None:
    with on.span("outer"), on.span("inner"):
        pass
    inner, outer = on.spans()
    assert (inner.name, outer.name) == ("inner", "outer")
    assert outer.start <= inner.start <= inner.end <= outer.end


def test_a_span_that_raises_names_the_error_and_lets_it_through(on: Recorder) -> None:
    with pytest.raises(KeyError), on.span("forward"):
        raise KeyError("weight")
    assert on.spans()[0].attributes == {"error": "KeyError"}


def test_a_span_may_be_recorded_after_the_fact(on: Recorder) -> None:
    on.record("wait", 10, 30, peer="w1")
    (span,) = on.spans()
    assert (span.name, span.start, span.end, dict(span.attributes)) == ("wait", 10, 30, {"peer": "w1"})


def test_a_full_recorder_forgets_the_oldest_spans_and_counts_them() -> None:
    small = Recorder(capacity=2)
    small.enabled = True
    for index in range(5):
        small.record(f"span {index}", 0, 1)
    assert [span.name for span in small.spans()] == ["span 3", "span 4"]
    assert small.forgotten == 3


def test_clear_forgets_everything(on: Recorder) -> None:
    on.record("wait", 0, 1)
    on.add("calls")
    on.clear()
    assert (on.spans(), on.counters(), on.forgotten) == ([], {}, 0)


def test_recording_restores_what_was_before_even_after_an_error() -> None:
    recorder = Recorder()
    with pytest.raises(ZeroDivisionError), recorder.recording():
        assert recorder.enabled
        raise ZeroDivisionError
    assert not recorder.enabled


def test_counters_add_up_and_are_listed_by_name(on: Recorder) -> None:
    on.add("bytes", 100)
    on.add("bytes", 28)
    on.add("acks")
    assert list(on.counters().items()) == [("acks", 1), ("bytes", 128)]


def test_no_count_and_no_span_is_lost_between_threads() -> None:
    threads, each = 8, 500
    shared = Recorder(capacity=threads * each)
    begin = threading.Barrier(threads)

    def work() -> None:
        begin.wait()
        for _ in range(each):
            shared.add("ticks")
            with shared.span("tick"):
                pass

    with shared.recording(), ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()
    assert shared.counters() == {"ticks": threads * each}
    assert len(shared.spans()) == threads * each
    assert len({span.thread for span in shared.spans()}) == threads


def test_the_chrome_trace_holds_every_span_in_microseconds_and_every_counter(on: Recorder, tmp_path) -> None:
    on.record("forward", 1_000, 4_000, shard="a")
    on.add("bytes", 7)
    path = tmp_path / "trace.json"
    on.write_chrome_trace(path, process="w0")
    trace = json.loads(path.read_text())
    named, span, counter = trace["traceEvents"]
    assert (named["ph"], named["args"]) == ("M", {"name": "w0"})
    assert {key: span[key] for key in ("ph", "name", "ts", "dur", "args")} == {
        "ph": "X",
        "name": "forward",
        "ts": 1.0,
        "dur": 3.0,
        "args": {"shard": "a"},
    }
    assert (counter["ph"], counter["name"], counter["ts"], counter["args"]) == ("C", "bytes", 4.0, {"value": 7})
    assert named["pid"] == span["pid"] == counter["pid"]


def test_an_empty_recorder_still_exports_a_trace() -> None:
    assert [event["ph"] for event in Recorder().chrome_trace()["traceEvents"]] == ["M"]


def test_a_recorder_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one span; got capacity=0"):
        Recorder(capacity=0)


def test_the_repr_says_how_full_it_is(on: Recorder) -> None:
    on.record("wait", 0, 1)
    assert repr(on) == "<Recorder on, 1 of 65536 spans, 0 counters>"
