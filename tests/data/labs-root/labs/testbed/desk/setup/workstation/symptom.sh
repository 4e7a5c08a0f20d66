[ "$(stat -c %U /root)" = root ]
