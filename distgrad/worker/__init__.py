"""A worker process: hosts shards and runs their methods, owns their parameters, takes part in updates.

shard       what a program defines: classes of shards and functions that may be called
programs    the folder of programs a worker was started with, and nothing else
host        the shards that live here
holding     state that moves by prepared updates: the two halves of an update
ownership   the parameters that live here
twins       copies of a shard that learn from different data
reduction   adding up what twins have found, in one order
replica     copies of the state that others own
member      how a process joins a cluster and hears of the others
worker      the process itself
child       what a process and the one that started it say to each other
children    processes that never outlive the one that started them
"""
