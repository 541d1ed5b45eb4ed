"""A recorder of spans and counters that any part of distgrad may call. Imports nothing of ours.

- `Recorder`: a bounded record of what happened when, and how often; off until started.
- `Span`: one stretch of time with a name.
- `recorder`: the process's own recorder, to which distgrad's parts report.
- `usage`: what this process has of the system's: descriptors, threads, memory.
"""

from .recorder import Recorder, Span, recorder
from .usage import usage

__all__ = ["Recorder", "Span", "recorder", "usage"]
