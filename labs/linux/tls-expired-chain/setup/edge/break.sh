# The evening shift followed a hardening guide as far as this line: the file is not there, and nginx was not asked.
echo 'ssl_dhparam /etc/nginx/tls/dhparam.pem;' >>/etc/nginx/snippets/tls.conf
