"""What a cluster agrees on: who belongs to it, which worker holds which shard, and whether a step was taken.

`membership`, `placement`, `journal`, `checkpoint`, `job` and `metrics` decide and store; they open no connection and
start no thread.
"""
