cd /root/stack
tofu init -input=false -no-color >/dev/null
tofu apply -auto-approve -input=false -no-color >/dev/null
