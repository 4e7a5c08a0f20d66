# fails: test_nobody_else_gets_in test_the_blocked_machine_stays_out test_no_blocked_source_is_forgotten
# The hurried mend: load what the machine had before. Customers are back, and so is what the audit found.
systemctl restart nftables
