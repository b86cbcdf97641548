# Sums up the server's log, whose lines begin with `BG|SQLSTATE|APPLICATION|`. Templates are matched on the
# whole message inside the sandbox, so that no part of it needs to be printed.
BEGIN { FS = "|" }
substr($0, 1, 3) != "BG|" { next }
# The server's own word on one of its processes. Said by anybody else it makes no test pass either.
$3 == "" && $4 ~ /^LOG:  .*\(PID [0-9]+\) was terminated by signal/ { count["FATAL 57P02 process_died"]++; next }
$3 != "psql" && $3 != "pg_restore" { next }
{
  state = $2
  if (length(state) != 5 || state ~ /[^0-9A-Z]/) next
  text = substr($0, 3 + 1 + length($2) + 1 + length($3) + 1)
  if (match(text, /^[A-Z]+:  /) == 0) next
  severity = substr(text, 1, RLENGTH - 3)
  if (severity != "WARNING" && severity != "ERROR" && severity != "FATAL" && severity != "PANIC") next
  message = substr(text, RLENGTH + 1)
  template = "other"
  if (message == "schema \"public\" already exists") template = "schema_public_exists"
  else if (message == "language \"plpgsql\" already exists") template = "language_exists"
  else if (message ~ /^role ".*" already exists$/) template = "role_exists"
  else if (message ~ /^role ".*" does not exist$/) template = "role_missing"
  else if (message ~ /^extension ".*" is not available$/) template = "extension_unavailable"
  else if (message ~ /^could not open extension control file/) template = "extension_unavailable"
  else if (message ~ /^could not (access|load|open) (file|library) ".*"/ && state == "58P01" \
           && message !~ /for reading/) template = "library_missing"
  else if (message ~ /^could not load library /) template = "library_missing"
  else if (message ~ /^collation ".*" for encoding ".*" does not exist$/) template = "collation_missing"
  else if (message ~ /^could not create locale /) template = "collation_missing"
  else if (message ~ /^unrecognized configuration parameter /) template = "parameter_unknown"
  else if (message ~ /^program ".*" failed/) template = "program_run"
  else if (message ~ /^could not open (server )?file ".*"/) template = "file_opened"
  else if (message ~ /^could not execute command /) template = "program_run"
  else if (message ~ /^there is already a transaction in progress/) template = "transaction_nested"
  else if (message ~ /^there is no transaction in progress/) template = "transaction_none"
  else if (message ~ /^tablespace ".*" does not exist$/) template = "tablespace_missing"
  else if (message ~ /^could not (write|extend|flush) .*: File too large$/) template = "file_limit"
  count[severity " " state " " template]++
}
END { for (key in count) print key, count[key] }
