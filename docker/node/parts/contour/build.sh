#!/bin/sh
# The module has the definitions of Contour's own kinds beside the program.
set -eu
module=github.com/projectcontour/contour
mkdir -p /out/usr/local/bin /out/usr/local/share/contour
go build -o /out/usr/local/bin/ tool
cp "$(go list -m -f '{{.Dir}}' $module)/examples/contour/01-crds.yaml" /out/usr/local/share/contour/definitions.yaml
