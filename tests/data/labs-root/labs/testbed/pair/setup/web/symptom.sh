grep -q '^192.0.2.1 db$' /etc/hosts
