"""The global graph: contexts, references, edges between processes, and the distributed backward pass.

edges      send and recv nodes, and the ids both ends derive for an edge
share      what one process holds of a context: its edges, values and gradients
tangents   forward mode: what a jvp takes along to other processes
values     trees of tensors, references and handles, on their way out and in
refs       the promise of a value on a worker
caller     issuing calls
callee     running calls that came
protocol   the distributed backward pass: its statement, its messages, who owes whom what
part       one process's part of a pass as a pure state machine: the protocol and the engine
backward   the same with a thread to compute in and links to speak over
passes     messages of passes on their way to their part; messages puts them into frames
inputs     what a restricted pass finds gradients for
initiator  the passes that one process starts in one context
functional dg.grad and other transforms of functions that call shards
gathering  contexts whose gradients are added up in one
urgency    what a schedule says of calls and passes, and takes to the processes they come to
timesheet  what the compute slot's time goes to
context    one recorded pass over any number of processes, as its owner sees it
stitched   the graph of a context, put together for people to look at
lossy      what crosses with fewer digits
peers      links on demand
process    one process of the graph: receives every message and knows who handles it
executor   the compute slot: one thing computes at a time (baton, waiting)
"""
