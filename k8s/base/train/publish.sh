#!/bin/sh
# Publishes a bundle to a store: a folder, where the bundle is named by the first 12 digits of its digest and its copy is
# atomic and verified, or an address that `simile push` takes. Then announces it to whom the environment names.
#
# The first bundle of a folder becomes `current`, so that a fresh cluster serves something. Later bundles are served only
# when a person chooses them: a starting pod must not load a bundle that nobody has reviewed.
set -eu
bundle=$1 store=$2

# Assignments, because `set -e` sees their exit codes (2: it does not match its manifest) only there.
case $store in
*://*)
    address=$(simile push "$bundle" "$store")
    echo "$address"
    ;;
*)
    manifest=$(simile inspect --json "$bundle")
    address=$(printf %s "$manifest" | python -c 'import json, sys; print(json.load(sys.stdin)["digest"][:12])')
    if ! [ -e "$store/$address" ]; then
        rm -rf "$store/.$address"
        cp -r "$bundle" "$store/.$address"
        simile inspect "$store/.$address" > /dev/null
        mv -T "$store/.$address" "$store/$address"
    fi
    [ -e "$store/current" ] || ln -sfn "$address" "$store/current"
    echo "published $address; current is $(readlink "$store/current")"
    ;;
esac

# A notice that did not arrive fails the container, and its retry publishes nothing twice.
if [ -n "${SIMILE_WEBHOOK_URL:-}${MODEL:-}" ]; then
    simile announce "${bundle%/bundle}" "$address" --format "${NOTICE:-json}" ${MODEL:+--model "$MODEL"}
fi
