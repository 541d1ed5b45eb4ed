#!/bin/sh
# Trains a job on a running Ray, by Ray's own queue of jobs. On the cluster's head node, at the clone's root:
#
#     deploy/ray/submit.sh deploy/jobs/digits.toml
#
# What comes after the job file goes to `distgrad train`. Ray runs it on the head node, in a copy of this folder that it
# throws away; so checkpoints are kept in runs/ here, where --resume finds them. Links between the nodes are in the clear:
# set the variables of a folder that deploy/certificates.sh has made, at the same path on every node, and leave out
# --insecure. Needs `ray[default]`, which brings Ray's dashboard; where that is not at port 8265, set
# RAY_API_SERVER_ADDRESS.
set -eu
job=${1:?usage: $0 JOB.toml [OPTION...]}
runs=$PWD/runs/$(basename "$job" .toml)
exec ray job submit --working-dir . -- \
  distgrad train "$@" --ray auto --insecure --set "checkpoint.directory=$runs"
