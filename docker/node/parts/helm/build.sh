#!/bin/sh
set -eu
mkdir -p /out/usr/local/bin
go build -o /out/usr/local/bin/ tool
