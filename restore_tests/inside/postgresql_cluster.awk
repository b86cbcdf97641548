# The filter of a dump of all databases on its way to psql; its own findings go to `status`.
# Every database is loaded in a transaction of its own, with sort orders that every host has.
BEGIN {
  rolesink = "/dev/stdout"; name_of = "^(\"([^\"]|\"\")+\"|[a-z_][a-z0-9_$]*)"
  odd_name = "^-reuse-previous=on \"dbname='[^'\"\\\\]+'\"$"  # as pg_dump quotes what is no plain word
  print "\\restrict " key
}
function leave() { if (begun) print "COMMIT;"; begun = 0 }
function enter(name) {
  leave()
  if (name !~ name_of "$" && name !~ odd_name) { odd = 1; exit }
  printf "\\unrestrict %s\n\\connect %s\n\\restrict %s\nBEGIN;\n", key, name, key
  begun = 1; created = 0; quote = ""; expected = 0
}
function make(line,  name, ascii) {
  leave(); sub(/^CREATE DATABASE /, "", line)
  if (!match(line, name_of)) { odd = 1; exit }
  name = substr(line, 1, RLENGTH); ascii = line ~ / ENCODING = 'SQL_ASCII'/
  if (name == "template1" || name == "postgres" || name == "template0") return
  printf "CREATE DATABASE %s TEMPLATE template0 ENCODING '%s' LC_COLLATE 'C' LC_CTYPE '%s';\n", \
    name, ascii ? "SQL_ASCII" : "UTF8", ascii ? "C" : "C.UTF-8"
}
copying { print; if ($0 == "\\.") copying = 0; next }
/^\\(un)?restrict / { next }
/^-- Database ".*" dump$/ { expected = 1 }
expected && /^\\encoding SQL_ASCII$/ { next }  # for the name that comes next; each database sets its own
/^\\connect / { if (expected) enter(substr($0, 10)); next }
/^COPY .* FROM stdin;$/ { created = 1; copying = 1; print; next }
/^-- PostgreSQL database cluster dump complete/ { trailer = 1 }
/^CREATE DATABASE / { if (expected) make($0); next }
/^(DROP|ALTER) DATABASE / { next }
/^COMMENT ON (DATABASE|TABLESPACE) / { next }
/^(CREATE|DROP|ALTER) TABLESPACE / { next }
/^(GRANT|REVOKE) .* ON TABLESPACE / { next }
/^ALTER ROLE postgres / { next }
/^UPDATE pg_catalog.pg_database / { next }
!created && /^(DROP |ALTER .* DROP |SELECT pg_catalog\.lo_unlink\()/ { next }
/^CREATE ROLE / { made[substr($0, 13, length($0) - 13)] = 1 }
/^CREATE / { created = 1 }
{
  if (quote == "" && foreign_hand($0)) { hostile = 1; exit }
  if (index($0, "$") && (quote != "" || $0 !~ /^INSERT /)) dollars($0)
  if ($0 ~ /^(ALTER|GRANT|REVOKE|SET SESSION|CREATE POLICY) / && $0 !~ /^ALTER ROLE /) roles($0)
  print
}
END { leave(); printf "trailer %d\nhostile %d\nodd %d\n", trailer, hostile, odd > status }
