"""A worker process: hosts shards and runs their methods, owns their parameters, takes part in updates.

shard       what a program defines: classes of shards and functions that may be called
programs    the folder of programs a worker was started with, and nothing else
host        the shards that live here
ownership   the parameters that live here and the two halves of an update
member      how a process joins a cluster and hears of the others
worker      the process itself
child       what a process and the one that started it say to each other
"""
