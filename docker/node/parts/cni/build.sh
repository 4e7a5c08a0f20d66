#!/bin/sh
set -eu
mkdir -p /out/opt/cni/bin
go build -o /out/opt/cni/bin/ tool
