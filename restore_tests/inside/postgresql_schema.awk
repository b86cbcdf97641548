# Looks through an archive's statements: roles, extensions, locale, encoding, foreign hands.
BEGIN { rolesink = roles_file; printf "" > roles_file }
function value(line, name) {
  if (match(line, name " = '[A-Za-z0-9_.@-]*'") == 0) return ""
  line = substr(line, RSTART + length(name) + 4, RLENGTH - length(name) - 5)
  return line
}
/^CREATE EXTENSION / {
  if (match($0, /^CREATE EXTENSION (IF NOT EXISTS )?"?[a-z0-9_-]+"? /)) {
    name = substr($0, 1, RLENGTH - 1); sub(/^.* /, "", name); gsub(/"/, "", name); print "extension", name
  }
}
/^SET client_encoding = '/ { if (e = value($0, "client_encoding")) print "encoding", e }
/^CREATE DATABASE / {
  if (l = value($0, "LC_COLLATE")) print "collate", l
  if (l = value($0, "LC_CTYPE")) print "ctype", l
  if (l = value($0, " LOCALE")) { print "collate", l; print "ctype", l }
}
{
  if (quote == "" && foreign_hand($0)) print "hostile", 1
  if (index($0, "$")) dollars($0)
  if ($0 ~ /^(ALTER|GRANT|REVOKE|SET SESSION|CREATE POLICY) /) roles($0)
}
