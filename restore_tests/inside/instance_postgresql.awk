# Sums up the server's refusals as pg_restore quotes them: what a rule of the data refused, what nobody
# but the account lacked, and the rest. Values that a message quotes stay here.
function add(key) { count[key]++ }
/^pg_restore: error: could not execute query: (ERROR|FATAL|PANIC):  |COPY failed for table .*: (ERROR|FATAL|PANIC):  |error returned by PQputCopy(Data|End): (ERROR|FATAL|PANIC):  / {
  sub(/^.*(ERROR|FATAL|PANIC):  /, "")
  if (/^(duplicate key value violates|insert or update on table .* violates|could not create unique index|new row .* violates|check constraint .* is violated|column .* contains null values|null value in column .* violates|invalid input (syntax|value) for|invalid byte sequence for|missing data for column|extra data after last expected column|value too long for type|date\/time field value out of range|unquoted |literal |numeric field overflow|.* out of range)/)
    add("refused")
  else if (/^(could not extend|could not write).*No space left|^out of memory|disk full/) add("no_disk")
  else if (/^permission denied to create extension|^extension .* is not available|could not open extension control file/)
    add("extension")
  else if (/^(type|function|operator|relation|schema|operator class|text search configuration) .* does not exist/)
    add("missing")
  else if (/^(role|tablespace|language) .* does not exist|^unrecognized configuration parameter|^schema "public" already exists/)
    add("benign")
  else if (/^permission denied|^must be (superuser|owner|member)|^only superuser/) add("permission")
  else if (/^canceling statement|^terminating connection|shutting down/) add("server")
  else add("unknown")
}
END { for (key in count) print "said", key, count[key] }
