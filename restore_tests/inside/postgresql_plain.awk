# The filter of a plain dump on its way to psql; its own findings go to `status`.
BEGIN { rolesink = "/dev/stdout"; print "\\restrict " key }
copying { print; if ($0 == "\\.") copying = 0; next }
/^\\(un)?restrict / { next }
/^\\connect / { next }
/^COPY .* FROM stdin;$/ { created = 1; copying = 1; print; next }
/^-- PostgreSQL database dump complete/ { trailer = 1 }
/^(CREATE|DROP|ALTER) DATABASE / { next }
/^COMMENT ON DATABASE / { next }
!created && /^(DROP |ALTER .* DROP |SELECT pg_catalog\.lo_unlink\()/ { next }
/^CREATE / { created = 1 }
{
  if (quote == "" && foreign_hand($0)) { hostile = 1; exit }
  if (index($0, "$") && (quote != "" || $0 !~ /^INSERT /)) dollars($0)
  if ($0 ~ /^(ALTER|GRANT|REVOKE|SET SESSION|CREATE POLICY) /) roles($0)
  print
}
END { printf "trailer %d\nhostile %d\n", trailer, hostile > status }
