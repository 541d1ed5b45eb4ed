"""A job that is over in a second: which points of a square have coordinates of one sign. Three shards in a row, each on
a worker of its own."""

from __future__ import annotations

from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"

JOB = f"""
name = "points"
steps = 12
microbatches = 2
[cluster]
workers = 3
programs = "{PROGRAMS}"
[[shard]]
name = "stem"
program = "net.py:Stage"
worker = "w0"
config = {{ inputs = 2, outputs = 8 }}
[[shard]]
name = "middle"
program = "net.py:Stage"
worker = "w1"
config = {{ inputs = 8, outputs = 8 }}
[[shard]]
name = "head"
program = "net.py:Head"
worker = "w2"
config = {{ inputs = 8, outputs = 2 }}
[pipeline]
forward = ["stem.forward", "middle.forward", "head.loss"]
evaluate = ["stem.forward", "middle.forward", "head.predict"]
[optimizer]
kind = "Adam"
settings = {{ lr = 0.01 }}
[data]
program = "net.py:Points"
config = {{ batch = 16 }}
[evaluation]
every = 4
[checkpoint]
directory = "checkpoints"
every = 4
"""
