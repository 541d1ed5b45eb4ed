"""Ways to have a cluster.

local       worker processes on this machine, for as long as a block lasts
connect     a cluster that runs elsewhere
supervise   a job on this machine: its coordinator and workers started, watched, started anew when lost
attach      a job on workers that are no children of this process
environment what launchers tell the processes they start
ray         workers that Ray runs, for a program or a job
ray_workers the actors: placed, started and restarted by Ray
foreground  one process of a cluster over several machines, until a signal ends it
directory   where their sockets are
joining     the way to a coordinator on another machine
signals     Ctrl-C and its like, as entries of a queue
"""
