#!/bin/sh
# Its own go.mod replaces hcl, which counts for nothing in another module: ours has to repeat that.
# Without dev=no it would call itself 1.10.10-dev.
set -eu
mkdir -p /out/usr/local/bin
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X github.com/opentofu/opentofu/version.dev=no' \
    -o /out/usr/local/bin/tofu tool
