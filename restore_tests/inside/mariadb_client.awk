# Sums up what the client says: the number and state of each error, and nothing of its text.
/^ERROR [0-9]+ \([0-9A-Z]+\)/ {
  state = $3; gsub(/[^0-9A-Z]/, "", state)
  count["error " ($2 + 0) " " state]++; next
}
/^ERROR at line [0-9]+: Not allowed in the sandbox mode/ { count["error 1 SANDB"]++; next }
/^ERROR/ { count["error 0 OTHER"]++ }
END { for (key in count) print key, count[key] }
