systemctl enable -q --now nginx
