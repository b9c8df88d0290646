#!/bin/sh
# Trains on the Ray cluster that this runs in, and publishes if the gate passes, as the pods of base/train do.
set -eu
simile run /etc/simile/run.yaml --set "out=/work/runs/$RUN" --engine ray --num-gpus "${GPUS:-0}"
if [ -n "${BUCKET:-}" ]; then
    simile push "/work/runs/$RUN/bundle" "$BUCKET"
else
    sh /etc/simile/publish.sh "/work/runs/$RUN/bundle" /bundles
fi
