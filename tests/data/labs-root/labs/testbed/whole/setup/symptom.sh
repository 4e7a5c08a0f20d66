echo "web answers, as if nothing had happened"
exit 7
