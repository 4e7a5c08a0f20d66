#!/bin/sh
# The aws command and boto3 beside it, for Debian 12's Python.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends python3-pip >/dev/null
mkdir -p /out/opt/aws /out/usr/local/bin /out/usr/local/lib/python3.11/dist-packages
pip install --quiet --no-deps --only-binary :all: --require-hashes --target /out/opt/aws \
  --cert /etc/ssl/certs/ca-certificates.crt --requirement requirements.txt
echo /opt/aws >/out/usr/local/lib/python3.11/dist-packages/aws.pth
# Without its switch to old names of hosts, for which it forgets endpoint_url in two services (rds, sqs).
cat >/out/usr/local/bin/aws <<'END'
#!/usr/bin/python3
import sys

from awscli.customizations import overridesslcommonname

overridesslcommonname.register_override_ssl_common_name = lambda cli: None

from awscli.clidriver import main

sys.exit(main())
END
chmod 755 /out/usr/local/bin/aws
