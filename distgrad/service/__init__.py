"""The gradient service: values and derivatives of functions, for whoever reaches the server.

    the server                                            <- start at `server`
server       listens with gRPC, and puts together what answers there
foreground   until a signal ends it
block        as long as a block lasts
grpc_door    gRPC's methods
grpc_stream  one of them: streams
grpc_health  whether it serves, for probes and load balancers
http_door    HTTP, for um_bridge
um_bridge    UM-Bridge's protocol: served functions as models
local_door   clients on the server's machine
local        Unix sockets of the server
access       who may do what; the audit
desk         where requests arrive, however they came
requests     requests checked before any work
repeats      messages like earlier ones, recognised by their bytes
tasks        requests on their way, and the queue they wait in
gathering    those that wait for others to be computed with
sessions     linearisations that are kept
pool         the processes that run requests
answers      one request and its whole answer
payloads     where the arrays of a request are meanwhile
transfers    what is too large for one message
metrics      numbers for Prometheus
settings     how the service behaves
certificates for development

    a process of the pool
process      takes requests from the server
evaluator    decodes them, computes, makes responses
encoding     requests and responses <-> Python values
functions    what is served
results      what they return, held against what was declared
products     values and products of derivatives

    its clients                                           <- in the folder `client`

    both
served       what the author of a function says about it
specs        what arguments and results must look like
failures     why a request got no answer
"""
