"""What a cluster agrees on: who belongs to it, which worker holds which shard, and whether a step was taken.

`membership`, `assignment`, `placement`, `journal` and `checkpoint` decide and store; they open no connection and start
no thread. The others do:

server   the coordinator                                        <- start here
client   a process that has joined a cluster to use it
news     what changes among the members, told to all of them
running  the job that a client trains; what it has made goes with it
shards   built on workers, found by name, built anew when their worker was
update   a step of an optimizer: on every owner, or on none; `optimizer` is what asks for it
doubt    what became of steps that were under way when a process was lost
copies   which worker keeps a copy of which owner's state
states   what shards hold, read and written one by one or as a checkpoint
recovery all shards at one version again after processes were lost
rounds   steps that several trainers take from one version, in turn
training jobs: what is trained, in which order, step after step
child    a coordinator that another process has started to train one job
"""
