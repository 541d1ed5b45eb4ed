"""Training jobs: a client of the cluster that takes one step after another, from the first to the last.

trainer    a job: step after step, evaluation and checkpoints     <- start here
job        what is trained, on which workers, and how: read from a file, or made in Python; `tables` reads and checks,
           `specs` says what the tables hold, `stages` what the pipeline calls
batches    a job's examples, checked and cut into microbatches; `data` says which kinds there are
feed       its batches in order, also when it goes back
step       one of its steps: forward, backward, update
schedule   in what order workers take the tasks of a step, and how many microbatches are alive
simulate   what a schedule would come to; `predict` measures a job for it
evaluation how good a model is on examples it has never been trained on
metrics    figures of a run, a line each; `tensorboard` draws them
saving     its checkpoints, written while it goes on
resuming   whether it may go on from one: what of the job has changed since
survival   its losses of processes, counted and recovered from
companions processes of a job that has several trainers, each with steps of its own
"""
