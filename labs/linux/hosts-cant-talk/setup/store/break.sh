sed -i "s/mtu 1500/mtu 9000/" /etc/network-setup.d/30-link
systemctl restart network-setup
