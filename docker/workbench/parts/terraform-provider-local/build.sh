#!/bin/sh
# The Go proxy knows the module by commits only: its version as a provider stands in a file of its own.
set -eu
module=github.com/terraform-providers/terraform-provider-local
go mod download $module
version=$(cat "$(go list -m -f '{{.Dir}}' $module)/version/VERSION")
mirror=/out/usr/local/share/terraform/providers/registry.opentofu.org/hashicorp/local/$version/linux_$(go env GOARCH)
mkdir -p "$mirror"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$mirror/terraform-provider-local_v${version}_x5" tool
