"""What a cluster agrees on: who belongs to it, which worker holds which shard, and whether a step was taken.

`membership`, `placement`, `journal`, `checkpoint`, `job` and `metrics` decide and store; they open no connection and
start no thread. The others do:

server   the coordinator                                        <- start here
client   a process that has joined a cluster to use it
update   a step of an optimizer: on every owner, or on none
trainer  a job: forward, backward, update, and the rest
child    a coordinator that another process has started to train one job
"""
