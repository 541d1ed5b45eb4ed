#!/bin/sh
# Trains a job on a running Ray, by Ray's own queue of jobs. On a node of the cluster, at the clone's root:
#
#     deploy/ray/submit.sh deploy/jobs/digits.toml
#
# What comes after the job file goes to `distgrad train`. Links between the nodes are in the clear here: set the variables
# of a folder that deploy/certificates.sh has made, at the same path on every node, and leave out --insecure.
# Needs `ray[default]`, which brings Ray's dashboard.
set -eu
job=${1:?usage: $0 JOB.toml [OPTION...]}
exec ray job submit --working-dir . -- distgrad train "$@" --ray auto --insecure
