#!/bin/sh
# The command, and what upstream's own node images are started with: its module carries that too.
set -eu
mkdir -p /out/usr/local/bin
go build -o /out/usr/local/bin/ tool
cp -r "$(go list -m -f '{{.Dir}}' sigs.k8s.io/kind)/images/base/files" /out/base
chmod -R u+w /out/base
