"""What a cluster agrees on: who belongs to it, which worker holds which shard, and whether a step was taken.

`membership`, `placement`, `journal`, `checkpoint`, `job` (with its tables in `specs` and its calls in `stages`),
`schedule`, `simulate` and `metrics` decide and store; they open no connection and start no thread. The others do:

server   the coordinator                                        <- start here
client   a process that has joined a cluster to use it
running  the job that a client trains; what it has made goes with it
shards   built on workers, found by name, built anew when their worker was
update   a step of an optimizer: on every owner, or on none
doubt    what became of steps that were under way when a process was lost
copies   which worker keeps a copy of which owner's state
states   what shards hold, read and written one by one or as a checkpoint
recovery all shards at one version again after processes were lost
trainer  a job: step after step, evaluation and checkpoints
survival its losses of processes, counted and recovered from
saving   its checkpoints, written while it goes on
feed     its batches in order, also when it goes back
step     one of its steps: forward, backward, update
schedule in what order workers take the tasks of a step, and how many microbatches are alive
simulate what a schedule would come to; predict measures a job for it
rounds   steps that several trainers take from one version, in turn; companions are the processes of the others
batches  a job's examples, checked and cut into microbatches; data says which kinds there are
evaluation how good a model is on examples it has never been trained on
child    a coordinator that another process has started to train one job
"""
