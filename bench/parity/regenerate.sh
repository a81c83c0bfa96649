#!/bin/sh
# Makes the reference cases of both frameworks anew, or with --check compares them with the ones on
# disk. Needs Python 3.11 (DGL has no later wheels) and about 11 GB for two virtual environments.
set -eu
cd "$(dirname "$0")/../.."

for framework in pyg dgl; do
    scripts/venv "$framework"
    DGLBACKEND=pytorch ".venv/$framework/bin/python" bench/parity/make_fixtures.py --framework "$framework" "$@"
done
