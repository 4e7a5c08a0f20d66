sed '/\bdb$/d' /etc/hosts >/etc/hosts.new
echo '192.0.2.1 db' >>/etc/hosts.new
mv /etc/hosts.new /etc/hosts
