#!/bin/sh
# OpenTofu finds a provider without a registry in a folder laid out as one; unpacked there, it needs no archive.
set -eu
version=1.0.0
mirror=/out/usr/local/share/terraform/providers/registry.opentofu.org/breakfix/cloud/$version/linux_$(go env GOARCH)
go test -vet=off ./...
mkdir -p "$mirror"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$version" \
    -o "$mirror/terraform-provider-cloud_v$version" .
