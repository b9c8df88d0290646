#!/bin/sh
# Copies a bundle into the store, named by the first 12 digits of its digest. The copy is atomic and verified.
#
# The first bundle of the store becomes `current`, so that a fresh cluster serves something. Later bundles are served
# only when a person chooses them: a starting pod must not load a bundle that nobody has reviewed.
set -eu
bundle=$1 store=$2

# A separate assignment, because `set -e` sees its exit code (2: it does not match its manifest) only there.
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
