# Counts what slapcat prints: entries by class, the newest change of each, those with a password, groups
# and their members. No value leaves.
function entry_ends() {
  if (!inside_entry) return
  entries++
  if (class !~ /^[A-Za-z][A-Za-z0-9-]*$/) class = "other"
  count[class]++
  if (time > newest[class]) newest[class] = time
  if (password) passwords++
  if (group) groups++
  class = time = ""; password = group = inside_entry = 0
}
/^$/ { entry_ends(); next }
/^dn:/ { inside_entry = 1; next }
/^structuralObjectClass: / { class = $2; next }
/^userPassword:/ { password = 1; next }
/^(member|uniqueMember|memberUid):/ { group = 1; members++; next }
/^modifyTimestamp: [0-9]+/ {
  time = substr($2, 1, 14)
  if (length(time) != 14 || time ~ /[^0-9]/ || time > limit || time < floor) time = ""
}
END {
  entry_ends()
  for (name in count) print "class", name, count[name]
  print "entries", entries + 0; print "passwords", passwords + 0; print "groups", groups + 0
  print "members", members + 0
  for (name in newest) if (newest[name]) print "newest", name, newest[name]
}
