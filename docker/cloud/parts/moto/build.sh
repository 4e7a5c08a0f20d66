#!/bin/sh
# moto and what it stands on, with the descriptions of those services alone that cloud.py serves.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends python3-pip >/dev/null
mkdir -p /out/opt/cloud
pip install --quiet --no-deps --only-binary :all: --require-hashes --target /out/opt/cloud \
  --cert /etc/ssl/certs/ca-certificates.crt --requirement requirements.txt
cd /out/opt/cloud/botocore/data
for service in */; do
  case ${service%/} in
    s3 | iam | sts | sqs | rds | secretsmanager | dynamodb) ;;
    *) rm -r "$service" ;;
  esac
done
