systemctl enable -q --now nginx dnsmasq
