"""The global graph: contexts, references, edges between processes, and the distributed backward pass.

edges      send and recv nodes, and the ids both ends derive for an edge
share      what one process holds of a context: its edges, values and gradients
values     trees of tensors, references and handles, on their way out and in
refs       the promise of a value on a worker
calls      issuing a call, and running one
protocol   the distributed backward pass as a pure state machine
backward   the pass itself: the engine, the protocol and the links put together
context    one recorded pass over any number of processes, as its owner sees it
peers      links on demand
process    one process of the graph: receives every message and knows who handles it
executor   the compute slot: one thing computes at a time (baton, waiting)
"""
