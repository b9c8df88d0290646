#!/bin/sh
# Copies a bundle into the store under the first 12 digits of its digest, whole or not at all, and verified there.
#
# The store's first bundle becomes `current` by itself, so that a fresh cluster serves something. Which of the later ones
# is served, a person decides: a pod that starts must not load what nobody has looked at.
set -eu
bundle=$1 store=$2

# On a line of its own: `set -e` takes its exit code (2: not what its manifest says) only there.
manifest=$(simile inspect --json "$bundle")
name=$(printf %s "$manifest" | python -c 'import json, sys; print(json.load(sys.stdin)["digest"][:12])')
if ! [ -e "$store/$name" ]; then
    rm -rf "$store/.$name"
    cp -r "$bundle" "$store/.$name"
    simile inspect "$store/.$name" > /dev/null
    mv -T "$store/.$name" "$store/$name"
fi
[ -e "$store/current" ] || ln -sfn "$name" "$store/current"
echo "published $name; current is $(readlink "$store/current")"
